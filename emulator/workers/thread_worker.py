"""A worker that runs a sync handler, or a generator, in a thread of its own.

A job costs two changes of thread, which is far more than a quick handler itself takes. So a worker whose
handler has proved to be quick takes several jobs at a time, as many as it is sure to have run within a
few milliseconds; when it was wrong, those it has not begun go back to the front of the queue.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from emulator.core.json_text import NotJSON, encode
from emulator.core.result import JobResult
from emulator.workers.handler import HandlerKind
from emulator.workers.handler_thread import Call, HandlerThread
from emulator.workers.inline_worker import HANDLER_PATIENCE_S, InlineWorker, Surroundings
from emulator.workers.outcome import (
    WorkerCrash,
    error_in_chunk,
    is_cancellation,
    result_of_exception,
    result_of_stream_exception,
    result_of_value,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from emulator.core.job import Job

#: A handler is quick when this many calls in a row took no longer than so many real seconds.
_QUICK_CALLS = 64
_QUICK_S = 0.0005
#: How many jobs a quick one takes at a time, and how long one of them may wait for its turn.
_BATCH = 16
_TURN_WITHIN_S = 0.01


#: What a handler mostly returns: asking `inspect` about it takes longer than many a handler.
_DATA_TYPES = frozenset({dict, list, str, int, float, bool, type(None)})


class ThreadWorker(InlineWorker):
    """Takes jobs, has them run one after the other in its thread, and brings back the results in order."""

    def __init__(self, worker_id: str, surroundings: Surroundings) -> None:
        super().__init__(worker_id, surroundings)
        run = self._iterate if self._handler.kind is HandlerKind.GENERATOR else self._return
        self._thread = HandlerThread(f"runpod-worker-{worker_id}", run, self._on_end)
        self._quick_calls = 0
        #: The jobs it holds, in the order in which they run.
        self._calls: dict[str, Call] = {}
        self._all_ended: asyncio.Future[None] | None = None
        #: What a plain function returned to be awaited, by job.
        self._awaiting: dict[str, asyncio.Future[Any]] = {}

    def end(self) -> None:
        """Take no more jobs. What runs cannot be stopped: it is left to itself, its result dropped."""
        for call in self._calls.values():
            call.abandoned = True
            call.claim()
        self._thread.close()
        super().end()

    async def _serve(self) -> None:
        while True:
            self._ask_concurrency_modifier()
            limit = _BATCH if self._quick_calls >= _QUICK_CALLS else 1
            jobs = await self._gateway.take(self._id, limit=max(limit, self._concurrency))
            with self._clock.activity(HANDLER_PATIENCE_S):
                await self._run_in_order(jobs)

    async def _run_in_order(self, jobs: list[Job]) -> None:
        loop = asyncio.get_running_loop()
        self._all_ended = loop.create_future()
        self._thread.call([self._call_for(job) for job in jobs])
        out_of_turn = None
        if len(jobs) > self._concurrency:
            out_of_turn = loop.call_later(_TURN_WITHIN_S, self._hand_back_waiting)
        try:
            await self._all_ended
        finally:
            if out_of_turn is not None:
                out_of_turn.cancel()

    def _call_for(self, job: Job) -> Call:
        thread = self._thread
        self._handler.progress.receive(
            job.id, lambda progress: self._report_progress(job, progress, thread.post)
        )
        call = self._calls[job.id] = Call(job)
        return call

    def _on_end(self, call: Call, outcome: Any) -> None:
        """A call has ended: report it."""
        job = call.job
        self._quick_calls = self._quick_calls + 1 if call.took_s <= _QUICK_S else 0
        if isinstance(outcome, JobResult | BaseException):
            self._report(job, outcome)
            self._forget(job.id)
        else:
            # A plain function may return a coroutine; the SDK awaits it on its loop, and so do we.
            self._keep(self._see_through(job, outcome))

    async def _see_through(self, job: Job, awaitable: Awaitable[Any]) -> None:
        awaited = self._awaiting[job.id] = asyncio.ensure_future(self._settle(awaitable))
        try:
            outcome = await awaited
        except asyncio.CancelledError:
            if not awaited.cancelled():
                awaited.cancel()
                raise
            self._gateway.let_go(self._id, job.id)
        else:
            self._report(job, outcome)
        finally:
            del self._awaiting[job.id]
            self._forget(job.id)

    async def _settle(self, awaitable: Awaitable[Any]) -> JobResult | WorkerCrash:
        """The outcome of what was returned; a handler's SystemExit that left this task would end the loop."""
        try:
            return result_of_value(await awaitable)
        except BaseException as error:
            if is_cancellation(error):
                raise
            try:
                return result_of_exception(error, self._id)
            except WorkerCrash as crash:
                return crash

    def _report(self, job: Job, outcome: JobResult | BaseException) -> None:
        if isinstance(outcome, JobResult):
            self._finish(job, outcome)
        else:
            self._crash(outcome)

    def _crash(self, error: BaseException) -> None:
        self._hand_back_waiting()
        self._gateway.crashed(self._id, str(error))
        self.end()

    def _stop(self, job_id: str) -> None:
        call = self._calls.get(job_id)
        if job_id in self._awaiting:
            self._awaiting[job_id].cancel()
        elif call is None or call.claim():
            self._gateway.let_go(self._id, job_id)
            self._forget(job_id)
        else:
            self._gateway.cannot_stop(
                self._id,
                f"job {job_id} is over, but its handler is a sync function, which cannot be stopped in this"
                " process: it is abandoned with its worker, and its late result will be dropped (a process"
                " worker would be killed: --worker-kind process)",
            )

    def _hand_back_waiting(self) -> None:
        """Give back the jobs whose turn has not come."""
        waiting = [job_id for job_id, call in self._calls.items() if call.claim()]
        if waiting:
            self._quick_calls = 0
            self._gateway.hand_back(self._id, waiting)
        for job_id in waiting:
            self._forget(job_id)

    def _forget(self, job_id: str) -> None:
        self._handler.progress.forget(job_id)
        self._calls.pop(job_id, None)
        if not self._calls and self._all_ended is not None and not self._all_ended.done():
            self._all_ended.set_result(None)

    # In the thread

    def _return(self, call: Call) -> object:
        """Call a plain function."""
        try:
            value = self._handler.function(call.job.payload())
            is_data = type(value) in _DATA_TYPES or not inspect.isawaitable(value)
            return result_of_value(value) if is_data else value
        except BaseException as error:
            return result_of_exception(error, self._id)

    def _iterate(self, call: Call) -> JobResult:
        """Run a generator, chunk by chunk, until it ends or nobody wants it any more."""
        collected: list[bytes] = []
        try:
            chunks = self._handler.function(call.job.payload())
            try:
                for chunk in chunks:
                    if (error := error_in_chunk(chunk)) is not None:
                        return JobResult(error=error)
                    chunk_json = encode(chunk, "chunk")
                    self._thread.post(self._gateway.push_chunk, self._id, call.job.id, chunk_json)
                    collected.append(chunk_json)
                    if call.abandoned:
                        break
            finally:
                chunks.close()
        except NotJSON as error:
            return JobResult(error=str(error))
        except BaseException as error:
            return result_of_stream_exception(error)
        return self._stream_result(collected)
