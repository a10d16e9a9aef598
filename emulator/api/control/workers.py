"""The workers of all endpoints, and what they write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.sse import EventSourceResponse, format_sse_event

from emulator.api.control.bodies import ControlErrorBody, LogLine, LogLines, Workers, WorkerView
from emulator.api.control.controls import ControlError
from emulator.core.config import WorkerKind
from emulator.core.json_text import encode

if TYPE_CHECKING:
    from emulator.api.control.controls import Controls
    from emulator.core.worker import Worker
    from emulator.history.worker_logs import LoggedLine, WorkerLogs

_LOG_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}},
    404: {"model": ControlErrorBody},
}


def add_workers(router: APIRouter, controls: Controls) -> None:
    """`/workers` and `/jobs/{id}/logs`."""

    @router.get("/workers")
    async def workers() -> Workers:
        """The workers of all endpoints, and why those of an endpoint do not start."""
        return Workers(
            workers=[
                _worker_view(controls, endpoint_id, worker)
                for endpoint_id, endpoint in controls.endpoints.items()
                for worker in endpoint.pool
            ],
            obstacles={
                endpoint_id: endpoint.pool.starts.obstacle
                for endpoint_id, endpoint in controls.endpoints.items()
                if endpoint.pool.starts.obstacle
            },
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
