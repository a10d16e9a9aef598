"""The emulator's own API under /_emulator: its health, its clock, and a fresh start."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, format_sse_event

from emulator.api.wire import (
    Advance,
    Advanced,
    ClockState,
    ControlErrorBody,
    Fired,
    Health,
    LogLine,
    LogLines,
    NextTimer,
    NotReady,
    Ready,
    ResetCounts,
    Workers,
    WorkerView,
)
from emulator.core.config import WorkerKind
from emulator.core.errors import JobNotFound
from emulator.core.json_text import encode
from emulator.version import __version__

if TYPE_CHECKING:
    from emulator.core.clock import Clock
    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job
    from emulator.core.worker import Worker
    from emulator.core.worker_logs import LoggedLine, WorkerLogs

log = logging.getLogger("emulator.api")

#: `advance` names this many of the timers it fired; their number is told in any case.
_FIRED_SHOWN = 1000
_LOG_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}},
    404: {"model": ControlErrorBody},
}


@dataclass(slots=True, frozen=True, kw_only=True)
class Controls:
    """What the control API can do to the emulator."""

    clock: Clock
    #: Forgets all jobs and restarts the workers; returns per endpoint how many there were.
    reset: Callable[[], Awaitable[dict[str, dict[str, int]]]]
    #: Why jobs cannot run yet, a sentence each.
    not_ready: Callable[[], list[str]]
    #: When the emulator started, ms since the epoch; None before.
    started_ms: Callable[[], int | None]
    endpoints: Mapping[str, Endpoint]
    #: Who runs the jobs of an endpoint.
    worker_kind: Callable[[str], WorkerKind]
    #: The number of a worker's process, by endpoint and worker.
    process_id: Callable[[str, str], int | None]
    logs: WorkerLogs


class ControlError(Exception):
    """The control API refuses a request."""

    def __init__(self, status: int, code: str, message: str, hint: str = "see /_emulator/docs") -> None:
        super().__init__(message)
        self.status = status
        self._content = {"error": {"code": code, "message": message, "hint": hint}}

    def body(self) -> bytes:
        """The answer's body."""
        return encode(self._content)


def control_router(controls: Controls) -> APIRouter:
    """The routes of the control API. Calls that change something answer once the change is visible."""
    router = APIRouter(prefix="/_emulator", tags=["control"], responses={400: {"model": ControlErrorBody}})
    clock = controls.clock

    @router.get("/health")
    async def health() -> Health:
        """Whether the emulator serves at all."""
        started_ms = controls.started_ms()
        uptime_ms = 0 if started_ms is None else clock.now_ms() - started_ms
        return Health(status="ok", version=__version__, uptime_s=uptime_ms / 1000)

    @router.get("/ready", response_model=Ready, responses={503: {"model": NotReady}})
    async def ready() -> Ready | JSONResponse:
        """Whether every endpoint can run jobs."""
        if reasons := controls.not_ready():
            return JSONResponse({"ready": False, "reasons": reasons}, 503)
        return Ready(ready=True)

    @router.get("/clock")
    async def read_clock() -> ClockState:
        """The emulated time, and what it will bring next."""
        return _state(clock)

    @router.post("/clock/advance")
    async def advance(request: Advance) -> Advanced:
        """Move time forward: due timers fire in order, and what they cause settles before the answer."""
        fired = await clock.advance(request.by_ms)
        log.info("clock advanced by %d ms: %d timers fired", request.by_ms, len(fired))
        return Advanced(
            **_state(clock).model_dump(),
            fired=[Fired(at_ms=timer.at_ms, kind=timer.kind) for timer in fired[:_FIRED_SHOWN]],
            fired_total=len(fired),
        )

    @router.post("/clock/freeze")
    async def freeze() -> ClockState:
        """Stop time; only `advance` moves it from here."""
        clock.freeze()
        log.info("clock frozen")
        return _state(clock)

    @router.post("/clock/resume")
    async def resume() -> ClockState:
        """Let time run again."""
        clock.resume()
        log.info("clock resumed: %s", clock.mode)
        return _state(clock)

    @router.post("/reset")
    async def reset() -> ResetCounts:
        """Forget all jobs, results, webhooks and counters; restart the workers and the clock's mode."""
        counts = await controls.reset()
        log.info("reset: %d jobs forgotten", sum(each["jobs"] for each in counts.values()))
        return ResetCounts(reset=counts)

    @router.get("/workers")
    async def workers() -> Workers:
        """The workers of all endpoints."""
        return Workers(
            workers=[
                _worker_view(controls, endpoint_id, worker)
                for endpoint_id, endpoint in controls.endpoints.items()
                for worker in endpoint.pool
            ]
        )

    @router.get("/workers/{worker_id}", responses={404: {"model": ControlErrorBody}})
    async def worker(worker_id: str) -> WorkerView:
        """One worker."""
        for endpoint_id, endpoint in controls.endpoints.items():
            if (found := endpoint.pool.get(worker_id)) is not None:
                return _worker_view(controls, endpoint_id, found)
        raise ControlError(404, "not_found", f"there is no worker {worker_id!r}", "see /_emulator/workers")

    @router.get("/workers/{worker_id}/logs", response_model=LogLines, responses=_LOG_ANSWERS)
    async def worker_logs(
        worker_id: str, request: Request, follow: bool = False, after: int = 0
    ) -> LogLines | EventSourceResponse:
        """What a worker process has written; with `follow` as server-sent events, until it has ended."""

        def is_up() -> bool:
            return any(endpoint.pool.get(worker_id) is not None for endpoint in controls.endpoints.values())

        if not is_up() and not controls.logs.knows(worker_id):
            raise ControlError(
                404, "not_found", f"there is no worker {worker_id!r}", "see /_emulator/workers"
            )
        read = partial(controls.logs.of_worker, worker_id)
        return _log_answer(controls.logs, read, lambda: not is_up(), follow, _last_seen(request, after))

    @router.get("/jobs/{job_id}/logs", response_model=LogLines, responses=_LOG_ANSWERS)
    async def job_logs(
        job_id: str, request: Request, follow: bool = False, after: int = 0
    ) -> LogLines | EventSourceResponse:
        """What worker processes have written about a job; with `follow` as server-sent events, to its end."""
        job = _find_job(controls, job_id)
        read = partial(controls.logs.of_job, job_id)
        return _log_answer(controls.logs, read, lambda: job.terminal, follow, _last_seen(request, after))

    return router


def _find_job(controls: Controls, job_id: str) -> Job:
    for endpoint in controls.endpoints.values():
        with suppress(JobNotFound):
            return endpoint.get(job_id)
    raise ControlError(404, "not_found", f"there is no job {job_id!r}: it is unknown or has expired")


def _worker_view(controls: Controls, endpoint_id: str, worker: Worker) -> WorkerView:
    return WorkerView(
        id=worker.id,
        endpoint=endpoint_id,
        kind=WorkerKind.EXTERNAL if worker.external else controls.worker_kind(endpoint_id),
        state=worker.state,
        reason=worker.reason,
        jobs=list(worker.jobs),
        crashes=worker.crashes,
        since_ms=worker.since_ms,
        process_id=controls.process_id(endpoint_id, worker.id),
    )


def _last_seen(request: Request, after: int) -> int:
    """The number of the last line the client has: what it asks for, or had when its stream broke."""
    last = request.headers.get("last-event-id", "")
    return max(after, int(last)) if last.isascii() and last.isdigit() else after


def _log_answer(
    logs: WorkerLogs,
    read: Callable[[int], list[LoggedLine]],
    has_ended: Callable[[], bool],
    follow: bool,
    after: int,
) -> LogLines | EventSourceResponse:
    if not follow:
        return LogLines(lines=[LogLine(**asdict(line)) for line in read(after)])

    async def events() -> AsyncIterator[bytes]:
        async for line in logs.follow(read, has_ended, after):
            yield format_sse_event(data_str=encode(asdict(line)).decode(), id=str(line.number))

    return EventSourceResponse(events())


def _state(clock: Clock) -> ClockState:
    timer = clock.next_timer()
    return ClockState(
        mode=clock.mode,
        rate=clock.rate,
        now_ms=clock.now_ms(),
        pending=clock.pending_count(),
        next_timer=None if timer is None else NextTimer(at_ms=timer.when_ms, kind=timer.kind),
    )
