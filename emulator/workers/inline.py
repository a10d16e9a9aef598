"""Workers in this process: the fastest way to run a handler, and the only one that cannot be killed.

Async handlers run on the emulator's event loop, others in a thread of the worker's own.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from emulator.core.errors import WorkerGone
from emulator.core.json_text import NotJSON, encode
from emulator.core.result import JobResult
from emulator.workers.handler import HandlerKind
from emulator.workers.handler_thread import HandlerThread
from emulator.workers.outcome import (
    WorkerCrash,
    error_in_chunk,
    result_of_exception,
    result_of_stream_exception,
    result_of_value,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from emulator.core.clock import Clock
    from emulator.core.gateway import Gateway
    from emulator.core.job import Job
    from emulator.workers.handler import Handler
    from emulator.workers.handler_thread import Call

log = logging.getLogger("emulator.workers")

#: Real seconds that a handler which has just started gets before an advancing clock moves on.
_HANDLER_PATIENCE_S = 0.1


class InlineLauncher:
    """Starts and ends the inline workers of one endpoint."""

    def __init__(self, handler: Handler, gateway: Gateway, clock: Clock, *, cold_start_ms: int) -> None:
        self.handler = handler
        self._gateway = gateway
        self._clock = clock
        self._cold_start_ms = cold_start_ms
        self._workers: dict[str, InlineWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, worker_id: str) -> None:
        """Begin a worker's cold start."""
        worker = InlineWorker(worker_id, self.handler, self._gateway, self._clock, self._spawn)
        self._workers[worker_id] = worker
        worker.start(self._cold_start_ms)

    def stop(self, worker_id: str) -> None:
        """End a worker that holds no job."""
        if worker := self._workers.pop(worker_id, None):
            worker.end()

    def kill(self, worker_id: str) -> None:
        """End a worker as far as that is possible in this process: what it runs is left to itself."""
        self.stop(worker_id)

    async def close(self, patience_s: float) -> int:
        """End all workers; returns how many handlers were still running after `patience_s` real seconds."""
        for worker_id in list(self._workers):
            self.stop(worker_id)
        if not self._tasks:
            return 0
        _, running = await asyncio.wait(self._tasks, timeout=patience_s)
        return len(running)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class InlineWorker:
    """One worker: as many lanes as it runs jobs at once, each taking and running one job at a time."""

    def __init__(self, worker_id: str, handler: Handler, gateway: Gateway, clock: Clock, spawn: Any) -> None:
        self._id = worker_id
        self._handler = handler
        self._gateway = gateway
        self._clock = clock
        self._spawn = spawn
        self._concurrency = 1
        self._lanes: dict[int, asyncio.Task[None]] = {}
        #: The lane that runs each job.
        self._running: dict[str, asyncio.Task[None]] = {}
        #: Jobs whose lane has been cancelled to stop them.
        self._stopped: set[str] = set()
        self._stop_watch: asyncio.Task[None] | None = None
        self._thread: HandlerThread | None = None
        if handler.kind in (HandlerKind.SYNC, HandlerKind.GENERATOR):
            self._thread = HandlerThread(f"runpod-worker-{worker_id}")

    def start(self, cold_start_ms: int) -> None:
        """Come up after the cold start and take jobs."""
        self._stop_watch = self._spawn(self._watch_stop_signals())
        self._lanes[0] = self._spawn(self._first_lane(cold_start_ms))

    def end(self) -> None:
        """Take no more jobs and run none."""
        for task in (self._stop_watch, *self._lanes.values()):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._lanes.clear()
        if self._thread is not None:
            self._thread.close()

    async def _first_lane(self, cold_start_ms: int) -> None:
        if cold_start_ms:
            await self._clock.sleep(cold_start_ms, "cold start")
        await self._lane(0)

    async def _lane(self, number: int) -> None:
        try:
            while number in self._lanes and self._lane_is_wanted(number):
                for job in await self._gateway.take(self._id):
                    await self._run(job)
        except WorkerGone:
            return
        self._lanes.pop(number, None)

    def _lane_is_wanted(self, number: int) -> bool:
        """Ask the handler's concurrency_modifier, as the SDK does before each take."""
        if self._handler.concurrency_modifier is None:
            return True
        try:
            self._concurrency = max(1, int(self._handler.concurrency_modifier(self._concurrency)))
        except Exception:
            log.exception("concurrency_modifier failed; the concurrency stays %d", self._concurrency)
        for other in range(self._concurrency):
            if other not in self._lanes:
                self._lanes[other] = self._spawn(self._lane(other))
        return number < self._concurrency

    async def _run(self, job: Job) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running[job.id] = task
        try:
            with self._clock.activity(_HANDLER_PATIENCE_S):
                result = await self._call_handler(job)
        except asyncio.CancelledError:
            if job.id not in self._stopped:
                raise
            self._stopped.discard(job.id)
            task.uncancel()
            self._gateway.let_go(self._id, job.id)
        except WorkerCrash as crash:
            self._gateway.crashed(self._id, str(crash))
            self.end()
            raise WorkerGone from crash
        else:
            self._gateway.finish(self._id, job.id, result)
        finally:
            del self._running[job.id]
            self._handler.progress.forget(job.id)

    # Running the handler

    async def _call_handler(self, job: Job) -> JobResult:
        if self._thread is not None:
            return await self._call_in_thread(job, self._thread)
        self._handler.progress.receive(job.id, lambda progress: self._report_progress(job, progress))
        if self._handler.kind is HandlerKind.ASYNC:
            return await self._await_handler(job)
        return await self._stream_handler(job)

    async def _await_handler(self, job: Job) -> JobResult:
        try:
            result = result_of_value(await self._handler.function(job.payload()))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            result = result_of_exception(error, self._id)
        return self._with_refresh(result)

    async def _stream_handler(self, job: Job) -> JobResult:
        collected: list[bytes] = []
        try:
            async with aclosing(self._handler.function(job.payload())) as chunks:
                async for chunk in chunks:
                    if (error := error_in_chunk(chunk)) is not None:
                        return self._with_refresh(JobResult(error=error))
                    chunk_json = encode(chunk, "chunk")
                    self._gateway.push_chunk(self._id, job.id, chunk_json)
                    collected.append(chunk_json)
        except asyncio.CancelledError:
            raise
        except NotJSON as error:
            return self._with_refresh(JobResult(error=str(error)))
        except BaseException as error:
            return self._with_refresh(result_of_stream_exception(error))
        return self._with_refresh(self._stream_result(collected))

    async def _call_in_thread(self, job: Job, thread: HandlerThread) -> JobResult:
        streams = self._handler.kind is HandlerKind.GENERATOR
        call = thread.call(lambda call: self._iterate(job, call, thread) if streams else self._return(job))
        self._handler.progress.receive(
            job.id, lambda progress: thread.post(self._report_progress, job, progress)
        )
        try:
            outcome = await call.future
            if inspect.isawaitable(outcome):
                # A plain function may return a coroutine; the SDK awaits it on its loop, and so do we.
                return self._with_refresh(await self._settle(outcome))
            return self._with_refresh(outcome)
        except asyncio.CancelledError:
            call.abandoned = True
            if job.id in self._stopped and call.started and not call.future.done():
                self._gateway.cannot_stop(
                    self._id,
                    f"job {job.id} is over, but its handler is a sync function, which cannot be stopped in"
                    " this process: it is abandoned with its worker, and its late result will be dropped"
                    " (process workers can be killed: --worker-kind process)",
                )
            raise

    def _return(self, job: Job) -> Any:
        """In the thread: call a plain function."""
        try:
            value = self._handler.function(job.payload())
            return value if inspect.isawaitable(value) else result_of_value(value)
        except BaseException as error:
            return result_of_exception(error, self._id)

    def _iterate(self, job: Job, call: Call, thread: HandlerThread) -> JobResult:
        """In the thread: run a generator, chunk by chunk, until it ends or nobody wants it any more."""
        collected: list[bytes] = []
        chunks = self._handler.function(job.payload())
        try:
            for chunk in chunks:
                if (error := error_in_chunk(chunk)) is not None:
                    return JobResult(error=error)
                chunk_json = encode(chunk, "chunk")
                thread.post(self._gateway.push_chunk, self._id, job.id, chunk_json)
                collected.append(chunk_json)
                if call.abandoned:
                    break
        except NotJSON as error:
            return JobResult(error=str(error))
        except BaseException as error:
            return result_of_stream_exception(error)
        finally:
            chunks.close()
        return self._stream_result(collected)

    async def _settle(self, outcome: Any) -> JobResult:
        try:
            return result_of_value(await outcome)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return result_of_exception(error, self._id)

    def _stream_result(self, collected: list[bytes]) -> JobResult:
        """The SDK's end of a stream: the chunks if they are wanted again, else an empty list."""
        wanted = collected if self._handler.return_aggregate_stream else []
        return JobResult(output_json=b"[" + b",".join(wanted) + b"]")

    def _with_refresh(self, result: JobResult) -> JobResult:
        if not self._handler.refresh_worker:
            return result
        return JobResult(
            output_json=result.output_json, error=result.error, stop_worker=True, warning=result.warning
        )

    def _report_progress(self, job: Job, progress: object) -> None:
        try:
            self._gateway.report_progress(self._id, job.id, encode(progress, "progress"))
        except NotJSON as error:
            log.warning("job %s: progress_update was ignored: %s", job.id, error)

    # Stopping jobs

    async def _watch_stop_signals(self) -> None:
        try:
            while True:
                for job_id in await self._gateway.next_stop_signals(self._id):
                    if (lane := self._running.get(job_id)) is not None:
                        self._stopped.add(job_id)
                        lane.cancel()
                    else:
                        self._gateway.let_go(self._id, job_id)
        except WorkerGone:
            return
