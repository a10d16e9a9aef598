"""The workers of all endpoints, and what they write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.sse import format_sse_event

from emulator.api.control.bodies import ControlErrorBody, Deleted
from emulator.api.control.controls import ControlError
from emulator.api.control.event_stream import EventStream
from emulator.api.control.given import Given
from emulator.api.control.worker_bodies import (
    LogLine,
    LogLines,
    WorkerActed,
    Workers,
    WorkerView,
)
from emulator.core.config import WorkerKind
from emulator.core.json_text import encode
from emulator.workers.usage import usage_of

if TYPE_CHECKING:
    from emulator.api.control.controls import Controls
    from emulator.core.worker import Worker
    from emulator.history.worker_logs import LoggedLine, WorkerLogs

log = logging.getLogger("emulator.api")


class WorkerAction(StrEnum):
    """What can be done to a worker."""

    STOP = "stop"
    KILL = "kill"
    THROTTLE = "throttle"
    PAUSE = "pause"
    RESUME = "resume"


_DONE = {
    WorkerAction.STOP: "stopped",
    WorkerAction.KILL: "killed",
    WorkerAction.THROTTLE: "throttled",
    WorkerAction.PAUSE: "paused",
    WorkerAction.RESUME: "resumed",
}
_OURS_ALONE = frozenset({WorkerAction.STOP, WorkerAction.KILL, WorkerAction.THROTTLE})
_LOG_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}},
    404: {"model": ControlErrorBody},
}


router = APIRouter()


@router.get("/workers")
async def workers(controls: Given, usage: bool = False) -> Workers:
    """The workers of all endpoints, and why those of an endpoint do not start; with `usage` what their
    processes take of the machine, as far as it can be told.
    """
    views = [
        _worker_view(controls, endpoint_id, worker)
        for endpoint_id, endpoint in controls.endpoints.items()
        for worker in endpoint.pool
    ]
    if usage:
        await asyncio.to_thread(_add_usage, views)
    return Workers(
        workers=views,
        obstacles={
            endpoint_id: endpoint.pool.starts.obstacle
            for endpoint_id, endpoint in controls.endpoints.items()
            if endpoint.pool.starts.obstacle
        },
    )


@router.get("/workers/{worker_id}", responses={404: {"model": ControlErrorBody}})
async def worker(controls: Given, worker_id: str) -> WorkerView:
    """One worker."""
    endpoint, found = controls.find_worker(worker_id)
    return _worker_view(controls, endpoint.id, found)


@router.post("/workers/{worker_id}/{action}", responses={404: {"model": ControlErrorBody}})
async def act(controls: Given, worker_id: str, action: WorkerAction) -> WorkerActed:
    """Stop a worker (once it holds no job), kill it (its jobs are lost, and queued again), pause it (it
    gets no more jobs) or resume it, or throttle it: its machine is taken away until it is resumed.
    """
    endpoint, worker = controls.find_worker(worker_id)
    told = f"{_DONE[action]} by hand"
    if worker.external and action in _OURS_ALONE:
        raise ControlError(
            400,
            "not_ours",
            f"worker {worker_id} came by itself: end it where it was started",
        )
    match action:
        case WorkerAction.STOP:
            endpoint.pool.stop(worker, told)
        case WorkerAction.KILL:
            endpoint.life.crash_worker(worker, told)
        case WorkerAction.PAUSE:
            endpoint.pool.pause(worker, "was paused by hand")
        case WorkerAction.RESUME:
            endpoint.life.resume_worker(worker)
        case WorkerAction.THROTTLE:
            if worker.busy:
                raise ControlError(
                    400,
                    "busy",
                    f"worker {worker_id} holds a job",
                    "pause it, kill it, or wait",
                )
            worker = endpoint.pool.throttle(worker, told)
    log.info("worker %s: %s", worker_id, told)
    there = endpoint.pool.get(worker.id)
    return WorkerActed(worker=None if there is None else _worker_view(controls, endpoint.id, there))


@router.get("/workers/{worker_id}/logs", response_model=LogLines, responses=_LOG_ANSWERS)
async def worker_logs(
    controls: Given, worker_id: str, request: Request, follow: bool = False, after: int = 0
) -> LogLines | EventStream:
    """What a worker process has written; with `follow` as server-sent events, until it has ended."""

    def is_up() -> bool:
        return any(endpoint.pool.get(worker_id) is not None for endpoint in controls.endpoints.values())

    if not is_up() and not controls.logs.knows(worker_id):
        raise ControlError(404, "not_found", f"there is no worker {worker_id!r}", "see /_emulator/workers")
    read = partial(controls.logs.of_worker, worker_id)
    return _log_answer(controls.logs, read, lambda: not is_up(), follow, _last_seen(request, after))


@router.get("/logs", response_model=LogLines)
async def logs(
    controls: Given, limit: Annotated[int, Query(ge=0, le=100_000)] = 1_000, after: int = 0
) -> LogLines:
    """What all workers have written last, oldest first."""
    return LogLines(lines=[LogLine(**asdict(line)) for line in controls.logs.newest(limit, after)])


@router.delete("/logs")
async def clear_logs(controls: Given) -> Deleted:
    """Forget what workers have written."""
    return Deleted(deleted=controls.logs.clear())


@router.get("/jobs/{job_id}/logs", response_model=LogLines, responses=_LOG_ANSWERS)
async def job_logs(
    controls: Given, job_id: str, request: Request, follow: bool = False, after: int = 0
) -> LogLines | EventStream:
    """What worker processes have written about a job; with `follow` as server-sent events, to its end."""
    _, job = controls.find_job(job_id)
    read = partial(controls.logs.of_job, job_id)
    return _log_answer(controls.logs, read, lambda: job.terminal, follow, _last_seen(request, after))


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
        paused=worker.paused or None,
    )


def _add_usage(views: list[WorkerView]) -> None:
    for view in views:
        if (usage := usage_of(view.process_id)) is not None:
            view.memory_bytes, view.cpu_s = usage.memory_bytes, usage.cpu_s


#: Of the number of a line: what has more is none of ours.
_DIGITS_MAX = 18


def _last_seen(request: Request, after: int) -> int:
    """The number of the last line the client has: what it asks for, or had when its stream broke."""
    last = request.headers.get("last-event-id", "")
    return max(after, int(last)) if len(last) <= _DIGITS_MAX and last.isascii() and last.isdigit() else after


def _log_answer(
    logs: WorkerLogs,
    read: Callable[[int], list[LoggedLine]],
    has_ended: Callable[[], bool],
    follow: bool,
    after: int,
) -> LogLines | EventStream:
    if not follow:
        return LogLines(lines=[LogLine(**asdict(line)) for line in read(after)])

    async def events() -> AsyncIterator[bytes]:
        async for line in logs.follow(read, has_ended, after):
            yield format_sse_event(data_str=encode(asdict(line)).decode(), id=str(line.number))

    return EventStream(events())
