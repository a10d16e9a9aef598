"""What has happened: the journal, and the webhooks that were sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from emulator.api.control.bodies import (
    AttemptView,
    Deleted,
    DeliveriesView,
    DeliveryView,
    JournalCount,
    JournalQuery,
    JournalView,
    JournalWait,
)
from emulator.api.control.controls import ControlError
from emulator.api.control.replies import list_of, object_of, reply
from emulator.api.har import har
from emulator.core.json_text import NotJSON, encode
from emulator.history.journal import EntryFilter, EntryKind
from emulator.scenario.matching import checked

if TYPE_CHECKING:
    from emulator.api.control.controls import Controls
    from emulator.history.journal import Entry
    from emulator.webhooks.deliveries import Delivery


_FORMATS: dict[str, dict[str, Any]] = {"application/json": {}, "application/jsonl": {}}


class JournalFormat(StrEnum):
    """How entries are written."""

    JSON = "json"
    JSONL = "jsonl"
    HAR = "har"


def add_history(router: APIRouter, controls: Controls) -> None:
    """`/journal` and `/webhooks`."""
    journal = controls.journal

    @router.get("/journal", response_model=None, responses={200: {"content": _FORMATS}})
    async def read(
        kind: EntryKind | None = None,
        endpoint: str | None = None,
        job: str | None = None,
        since: int = 0,
        limit: Annotated[int, Query(ge=0, le=1_000_000)] | None = None,
        format: JournalFormat = JournalFormat.JSON,
    ) -> Response:
        """The entries, oldest first, as one document, as JSON lines, or the calls among them as HAR."""
        query = EntryFilter(kind=kind, endpoint_id=endpoint, job_id=job, since=since)
        return _written(journal.find(query, limit), format)

    @router.delete("/journal")
    async def clear(endpoint: str | None = None) -> Deleted:
        """Forget all entries, or those of one endpoint."""
        return Deleted(deleted=journal.clear(endpoint))

    @router.post("/journal/find", response_model=JournalView)
    async def find(request: JournalQuery) -> Response:
        """The entries that are like `match`, oldest first; of too many the newest `limit`."""
        return _written(journal.find(_query(request), request.limit), JournalFormat.JSON)

    @router.post("/journal/count")
    async def count(request: JournalQuery) -> JournalCount:
        """How many entries there are that are like `match`."""
        return JournalCount(count=len(journal.find(_query(request), request.limit)))

    @router.post("/journal/wait", response_model=JournalView)
    async def wait(request: JournalWait) -> Response:
        """Wait, in real time, until there are `count` such entries; answers with those there are then."""
        query, clock = _query(request), controls.clock
        if request.endpoint is not None:
            clock = controls.clock_of(request.endpoint)
        with suppress(TimeoutError):
            async with asyncio.timeout(request.timeout_ms / 1000):
                await journal.wait(query, request.count, clock)
        return _written(journal.find(query, request.limit), JournalFormat.JSON)

    @router.get("/webhooks")
    async def webhooks(endpoint: str | None = None, job: str | None = None) -> DeliveriesView:
        """The newest webhook deliveries with all their attempts, oldest first."""
        return DeliveriesView(
            webhooks=[
                _delivery_view(each)
                for each in controls.webhooks
                if endpoint in (None, each.endpoint.id) and job in (None, each.job_id)
            ]
        )

    @router.post("/webhooks/{number}/redeliver")
    async def redeliver(number: int) -> DeliveryView:
        """Send a webhook once more, with the body it had."""
        delivery = controls.webhooks.redeliver(number)
        if delivery is None:
            raise ControlError(
                404, "not_found", f"there is no webhook delivery {number}", "see /_emulator/webhooks"
            )
        return _delivery_view(delivery)


def _query(request: JournalQuery) -> EntryFilter:
    return EntryFilter(
        kind=request.kind,
        endpoint_id=request.endpoint,
        job_id=request.job,
        since=request.since,
        match=checked(request.match, "match"),
    )


def _written(entries: list[Entry], written_as: JournalFormat) -> Response:
    match written_as:
        case JournalFormat.JSONL:
            lines = b"".join(_text_of(entry) + b"\n" for entry in entries)
            return Response(lines, media_type="application/jsonl")
        case JournalFormat.HAR:
            return reply(encode(har(entries)))
        case _:
            return reply(object_of({}, entries=list_of(map(_text_of, entries))))


def _text_of(entry: Entry) -> bytes:
    try:
        return encode(entry.as_json())
    except (NotJSON, RecursionError):
        # A value in it is nested too deeply to be shown.
        return encode(entry.outline())


def _delivery_view(delivery: Delivery) -> DeliveryView:
    return DeliveryView(
        id=delivery.number,
        endpoint=delivery.endpoint.id,
        job_id=delivery.job_id,
        url=delivery.shown_url,
        delivered=delivery.delivered,
        over=delivery.over,
        attempts=[
            AttemptView(at_ms=each.at_ms, status=each.status, failure=each.failure)
            for each in delivery.attempts
        ],
    )
