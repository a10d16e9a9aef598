"""What all workers in this process have in common."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from emulator.core.json_text import NotJSON, encode
from emulator.core.result import JobResult
from emulator.errors import WorkerGone

if TYPE_CHECKING:
    from emulator.clock.clock import Clock
    from emulator.core.gateway import Gateway
    from emulator.core.job import Job
    from emulator.workers.handler import Handler

log = logging.getLogger("emulator.workers")

#: Real seconds that a handler which has just started gets before an advancing clock moves on.
HANDLER_PATIENCE_S = 0.25


def _at_once(function: Callable[..., object], *arguments: object) -> None:
    function(*arguments)


@dataclass(slots=True, frozen=True, kw_only=True)
class Surroundings:
    """What a worker is given by its launcher."""

    handler: Handler
    gateway: Gateway
    clock: Clock
    #: Makes a task that the launcher owns.
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class InlineWorker(ABC):
    """A worker whose handler runs in this process: it speaks to the gateway by calling its methods."""

    def __init__(self, worker_id: str, surroundings: Surroundings) -> None:
        self._id = worker_id
        self._handler = surroundings.handler
        self._gateway = surroundings.gateway
        self._clock = surroundings.clock
        self._spawn = surroundings.spawn
        self._concurrency = 1
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_ended = False
        self._watching: asyncio.Task[None]

    def start(self, cold_start_ms: int) -> None:
        """Come up after the cold start and take jobs."""
        self._keep(self._come_up(cold_start_ms))
        self._watching = self._keep(self._watch_stop_signals())

    def end(self) -> None:
        """Take no more jobs and run none."""
        self._has_ended = True
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    @abstractmethod
    async def _serve(self) -> None:
        """Take and run jobs until the worker is to go.

        :raises WorkerGone: it is.
        """

    @abstractmethod
    def _stop(self, job_id: str) -> None:
        """Stop a job, as far as that is possible."""

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._spawn(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _come_up(self, cold_start_ms: int) -> None:
        if cold_start_ms:
            await self._clock.sleep(cold_start_ms, "cold start", self._id)
        await self._until_gone(self._serve())

    async def _watch_stop_signals(self) -> None:
        await self._until_gone(self._obey_stop_signals())

    async def _obey_stop_signals(self) -> None:
        while True:
            for job_id in await self._gateway.next_stop_signals(self._id):
                self._stop(job_id)

    async def _until_gone(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work for as long as the worker is there; one that cannot go on with it has crashed."""
        try:
            await work
        except WorkerGone:
            return
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """What is no handler's doing keeps it from going on: another is to take its place."""
        log.error("worker %s cannot go on: this is a bug of the emulator", self._id, exc_info=error)
        self._gateway.crashed(self._id, f"a bug of the emulator ended it ({type(error).__name__})")
        self.end()

    def _ask_concurrency_modifier(self) -> None:
        """Ask how many jobs to run at once, as the SDK does before each take."""
        if self._handler.concurrency_modifier is None:
            return
        try:
            self._concurrency = max(1, int(self._handler.concurrency_modifier(self._concurrency)))
        except Exception:
            log.exception("concurrency_modifier failed; the concurrency stays %d", self._concurrency)

    def _report_progress(self, job: Job, progress: object, on_loop: Callable[..., object] = _at_once) -> None:
        """Encode the progress at once, as the handler may change it; `on_loop` has the gateway told."""
        try:
            progress_json = encode(progress, "progress")
        except NotJSON as error:
            log.warning("job %s: progress_update was ignored: %s", job.id, error)
            return
        on_loop(self._gateway.report_progress, self._id, job.id, progress_json)

    def _stream_result(self, chunks: list[bytes]) -> JobResult:
        """The SDK's end of a stream: the chunks if they are wanted again, else an empty list."""
        wanted = chunks if self._handler.return_aggregate_stream else []
        return JobResult(output_json=b"[" + b",".join(wanted) + b"]")

    def _finish(self, job: Job, result: JobResult) -> None:
        if self._handler.refresh_worker:
            result = replace(result, stop_worker=True)
        self._gateway.finish(self._id, job.id, result)
