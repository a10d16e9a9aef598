"""Tells an emulator what was written down, so that it goes on from there."""

from __future__ import annotations

import json
import logging
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from emulator.core.config import EndpointConfig
from emulator.core.container import ContainerSettings
from emulator.core.gateway import Gateway
from emulator.core.job import JobStatus
from emulator.core.placement import Placement
from emulator.errors import EmulatorError, StateError
from emulator.ledger.parts import CLOCK, ENDPOINT, FAULTS, STOP, STUBS, fault_of, set_clock, stub_of
from emulator.ledger.records import COUNTS, JobsFromRecords
from emulator.webhooks.deliveries import Attempt, Delivery

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from emulator.core.comeback import Kept
    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job
    from emulator.ledger.ledger import Ledger
    from emulator.ledger.parts import Served
    from emulator.ledger.records import (
        ChunkRecord,
        DeliveryRecord,
        JobRecord,
        PartRecord,
        RequestRecord,
    )

log = logging.getLogger("emulator.state")

_CRASHED = "the emulator ended while the job's worker had it"


class Retelling:
    """What was written down, read whole before anything of it is told."""

    def __init__(
        self,
        jobs: Iterable[tuple[RequestRecord, JobRecord]],
        chunks: Iterable[ChunkRecord],
        deliveries: Iterable[DeliveryRecord],
        parts: Iterable[PartRecord],
        *,
        is_new: bool = False,
    ) -> None:
        """Read it; `is_new` is for what comes from elsewhere, which the emulator's file does not have."""
        self._is_new = is_new
        self._deliveries = list(deliveries)
        self._parts: dict[tuple[str, str], PartRecord] = {(part.kind, part.name): part for part in parts}
        self._kept: defaultdict[str, list[Kept]] = defaultdict(list)
        by_number: dict[int, Job] = {}
        job_of = JobsFromRecords()
        for request, state in jobs:
            kept = job_of(request, state)
            if is_new:
                kept.job.number = 0
            self._kept[request.endpoint].append(kept)
            by_number[request.number] = kept.job
        #: The numbers of each job's unread chunks.
        self._chunks: dict[Job, list[int]] = {}
        for chunk in chunks:
            if (job := by_number.get(chunk.job)) is None:
                continue
            if job.chunks is None:
                job.chunks = deque()
            job.chunks.append(chunk.output)
            self._chunks.setdefault(job, []).append(chunk.number)

    async def tell(self, served: Served, ledger: Ledger | None) -> None:
        """Have the emulator go on.

        :raises StateError: what was written down makes no sense.
        """
        try:
            await self._tell_parts(served)
            orphans = self._tell_jobs(served, ledger)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StateError(f"the state makes no sense: {type(error).__name__}: {error}") from error
        # What fell due meanwhile falls due before anybody is given a job.
        for clock in dict.fromkeys([served.clock, *(each.clock for each in served.endpoints.values())]):
            clock.catch_up()
        stopped = self._is_new or (STOP, "") in self._parts
        for endpoint, job in orphans:
            if job.status is not JobStatus.IN_PROGRESS:
                continue
            if stopped:
                # It was ended on purpose: that is no fault of the job.
                endpoint.life.requeue_blamelessly(job)
            else:
                endpoint.life.lose(job, _CRASHED)
        for endpoint in served.endpoints.values():
            Gateway(endpoint).expect_back()
        for record in self._deliveries:
            if not self._is_new:
                served.webhooks.number_after(record.number)
            if (to := served.endpoints.get(record.endpoint)) is not None:
                served.webhooks.resume(_delivery(to, record), is_new=self._is_new)
        if self._is_new:
            for endpoint in served.endpoints.values():
                endpoint.life.go_on()

    def check(self, served: Served) -> None:
        """See that an emulator could go on from it, before anything is given up for it.

        :raises StateError: an endpoint of it is not there, nor comes with it; or it makes no sense.
        """
        for endpoint_id in self._kept:
            if endpoint_id not in served.endpoints and (ENDPOINT, endpoint_id) not in self._parts:
                there = ", ".join(served.endpoints)
                raise StateError(
                    f"the state has jobs of endpoint {endpoint_id!r}, which is not served: there is {there}"
                )
        try:
            for (kind, _), part in self._parts.items():
                _read_part(kind, json.loads(part.value))
            for record in self._deliveries:
                _attempts_of(record)
        except (AttributeError, KeyError, TypeError, ValueError, EmulatorError) as error:
            raise StateError(f"the state makes no sense: {type(error).__name__}: {error}") from error

    async def _tell_parts(self, served: Served) -> None:
        if (part := self._parts.get((CLOCK, ""))) is not None:
            set_clock(served.clock, json.loads(part.value))
        for (kind, name), part in self._parts.items():
            if kind == ENDPOINT and name not in served.endpoints:
                await _add_endpoint(served, name, json.loads(part.value))
        if (part := self._parts.get((FAULTS, ""))) is not None:
            for fields in json.loads(part.value):
                served.faults.restore(fault_of(fields))
        for endpoint in served.endpoints.values():
            clock = self._parts.get((CLOCK, endpoint.id))
            if clock is not None and endpoint.clock is not served.clock:
                set_clock(endpoint.clock, json.loads(clock.value))
            if (part := self._parts.get((STUBS, endpoint.id))) is not None:
                for fields in json.loads(part.value):
                    try:
                        served.scenarios[endpoint].add_stub(stub_of(fields))
                    except EmulatorError as error:
                        log.warning("state: a stub of endpoint %r is left out: %s", endpoint.id, error)

    def _tell_jobs(self, served: Served, ledger: Ledger | None) -> list[tuple[Endpoint, Job]]:
        orphans: list[tuple[Endpoint, Job]] = []
        for endpoint in served.endpoints.values():
            kept = self._kept.get(endpoint.id, [])
            part = self._parts.get((COUNTS, endpoint.id))
            if not kept and part is None:
                continue
            counts: dict[str, Any] = {"ended": {}, "retried": 0} if part is None else json.loads(part.value)
            orphans += [(endpoint, job) for job in endpoint.resume(kept, *_counts_in(counts))]
            if ledger is not None:
                for job in (each.job for each in kept):
                    if self._is_new:
                        ledger.adopt(endpoint, job)
                    else:
                        ledger.knows(job, self._chunks.get(job, ()))
            if kept:
                queued = sum(each.job.status is JobStatus.IN_QUEUE for each in kept)
                log.info(
                    "state: endpoint %s has %d jobs of before: %d in the queue, %d in progress, %d ended",
                    endpoint.id, len(kept), queued, endpoint.life.in_progress,
                    len(kept) - queued - endpoint.life.in_progress,
                )  # fmt: skip
        if ledger is not None and self._is_new:
            ledger.touch()
        elif ledger is not None:
            ledger.knows_parts(
                part for part in self._parts.values() if part.kind != COUNTS and _is_served(part, served)
            )
        for endpoint_id, left in self._kept.items():
            if endpoint_id not in served.endpoints:
                log.warning(
                    "state: %d jobs are of endpoint %r, which is not served now: they stay in the file",
                    len(left), endpoint_id,
                )  # fmt: skip
        return orphans


def _is_served(part: PartRecord, served: Served) -> bool:
    """Whether it is about something that is there now; what is not stays in the file as it is."""
    return part.kind in (FAULTS, STOP) or not part.name or part.name in served.endpoints


async def _add_endpoint(served: Served, endpoint_id: str, fields: dict[str, Any]) -> None:
    try:
        await served.add_endpoint(endpoint_id, _config_of(fields["settings"]), fields["clock"])
    except (EmulatorError, TypeError) as error:
        log.warning("state: endpoint %r is not served, its jobs stay in the file: %s", endpoint_id, error)


def _read_part(kind: str, value: Any) -> None:
    """Fail as telling it would."""
    if kind == ENDPOINT:
        _config_of(value["settings"])
    elif kind == FAULTS:
        for fields in value:
            fault_of(fields)
    elif kind == STUBS:
        for fields in value:
            stub_of(fields)
    elif kind == COUNTS:
        _counts_in(value)


def _counts_in(value: Mapping[str, Any]) -> tuple[dict[JobStatus, int], int]:
    """How many jobs have ended in each state, and how often one was retried."""
    return {JobStatus(status): int(count) for status, count in value["ended"].items()}, int(value["retried"])


def _attempts_of(record: DeliveryRecord) -> list[Attempt]:
    return [Attempt(*attempt) for attempt in json.loads(record.attempts)]


def _delivery(endpoint: Endpoint, record: DeliveryRecord) -> Delivery:
    return Delivery(
        record.number,
        endpoint,
        record.job_id,
        record.url,
        record.body,
        _attempts_of(record),
        next_attempt=record.next_attempt,
        due_ms=record.due_ms,
    )


def _config_of(settings: Mapping[str, Any]) -> EndpointConfig:
    """An endpoint's settings, of which a file has the plain values."""
    container = settings.get("container", {})
    made = ContainerSettings(**{**container, "volumes": tuple(container.get("volumes", ()))})
    placement = Placement(**settings.get("placement", {}))
    return EndpointConfig(**{**settings, "container": made, "placement": placement})
