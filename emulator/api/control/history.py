"""What has happened: the journal, and the webhooks that were sent."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from emulator.api.control.bodies import Deleted
from emulator.api.control.controls import ControlError
from emulator.api.control.given import Given
from emulator.api.control.history_bodies import (
    AttemptView,
    DeliveriesView,
    DeliveryDetail,
    DeliveryView,
    JournalCount,
    JournalQuery,
    JournalView,
    JournalWait,
    Redelivery,
)
from emulator.api.control.replies import json_of, list_of, object_of, reply
from emulator.api.har import har
from emulator.clock.slices import in_slices
from emulator.core.json_text import NotJSON, encode
from emulator.core.request import checked_webhook
from emulator.history.journal import EntryFilter, EntryKind
from emulator.masking import masked_body
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


router = APIRouter()


@router.get("/journal", response_model=None, responses={200: {"content": _FORMATS}})
async def read(
    controls: Given,
    kind: EntryKind | None = None,
    endpoint: str | None = None,
    job: str | None = None,
    since: int = 0,
    limit: Annotated[int, Query(ge=0, le=1_000_000)] | None = None,
    format: JournalFormat = JournalFormat.JSON,
) -> Response:
    """The entries, oldest first, as one document, as JSON lines, or the calls among them as HAR."""
    query = EntryFilter(kind=kind, endpoint_id=endpoint, job_id=job, since=since)
    return await _written(await controls.journal.search(query, limit), format)


@router.delete("/journal")
async def clear(controls: Given, endpoint: str | None = None) -> Deleted:
    """Forget all entries, or those of one endpoint."""
    return Deleted(deleted=len(controls.journal.clear(endpoint)))


@router.post("/journal/find", response_model=JournalView)
async def find(controls: Given, request: JournalQuery) -> Response:
    """The entries that are like `match`, oldest first; of too many the newest `limit`."""
    return await _written(await controls.journal.search(_query(request), request.limit), JournalFormat.JSON)


@router.post("/journal/count")
async def count(controls: Given, request: JournalQuery) -> JournalCount:
    """How many entries there are that are like `match`."""
    return JournalCount(count=len(await controls.journal.search(_query(request), request.limit)))


@router.post("/journal/wait", response_model=JournalView)
async def wait(controls: Given, request: JournalWait, client: Request) -> Response:
    """Wait, in real time, until there are `count` such entries; answers with those there are then."""
    query, clock = _query(request), controls.clock
    if request.endpoint is not None:
        clock = controls.clock_of(request.endpoint)
    await controls.waits.until(
        controls.journal.wait(query, request.count, clock),
        timeout_ms=request.timeout_ms,
        receive=client.receive,
    )
    return await _written(await controls.journal.search(query, request.limit), JournalFormat.JSON)


@router.get("/webhooks")
async def webhooks(controls: Given, endpoint: str | None = None, job: str | None = None) -> DeliveriesView:
    """The newest webhook deliveries with all their attempts, oldest first."""
    return DeliveriesView(
        webhooks=[
            _delivery_view(each)
            for each in controls.webhooks
            if endpoint in (None, each.endpoint.id) and job in (None, each.job_id)
        ]
    )


@router.get("/webhooks/{number}", response_model=DeliveryDetail)
async def webhook(controls: Given, number: int) -> Response:
    """One delivery, with the body that was sent."""
    delivery = _find_delivery(controls, number)
    return reply(
        object_of(
            _delivery_view(delivery).model_dump(mode="json"),
            body=json_of(lambda: masked_body(delivery.body)),
        )
    )


@router.post("/webhooks/{number}/redeliver")
async def redeliver(controls: Given, number: int, request: Redelivery | None = None) -> DeliveryView:
    """Send a webhook once more, with the body it had, to where it went or to another URL."""
    url = None if request is None or request.url is None else checked_webhook(request.url)
    return _delivery_view(controls.webhooks.redeliver(_find_delivery(controls, number), url))


def _find_delivery(controls: Controls, number: int) -> Delivery:
    if (delivery := controls.webhooks.get(number)) is None:
        raise ControlError(
            404, "not_found", f"there is no webhook delivery {number}", "see /_emulator/webhooks"
        )
    return delivery


def _query(request: JournalQuery) -> EntryFilter:
    return EntryFilter(
        kind=request.kind,
        endpoint_id=request.endpoint,
        job_id=request.job,
        since=request.since,
        match=checked(request.match, "match"),
    )


async def _written(entries: list[Entry], written_as: JournalFormat) -> Response:
    """The entries as text, which takes a while: thousands of them, of up to 8 MiB for each kind."""
    match written_as:
        case JournalFormat.JSONL:
            lines = [_text_of(entry) + b"\n" async for entry in in_slices(entries)]
            return Response(b"".join(lines), media_type="application/jsonl")
        case JournalFormat.HAR:
            return reply(await har(entries))
        case _:
            texts = [_text_of(entry) async for entry in in_slices(entries)]
            return reply(object_of({}, entries=list_of(texts)))


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
            AttemptView(
                began_ms=each.began_ms,
                at_ms=each.at_ms,
                status=each.status,
                failure=each.failure,
                answer=each.answer,
            )
            for each in delivery.attempts
        ],
    )
