"""A worker that runs a sync handler, or a generator, in a thread of its own.

The thread has a running event loop, as the SDK calls such a handler on its own: what a plain function returns
to be awaited is awaited there.

A job costs two changes of thread, which is far more than a quick handler itself takes. So a worker whose
handler has proved to be quick takes several jobs at a time, as many as it is sure to have run within a
few milliseconds; when it was wrong, those it has not begun go back to the front of the queue.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from emulator.clock.real_time import next_round, real_seconds
from emulator.core.json_text import NotJSON, encode
from emulator.core.result import JobResult
from emulator.errors import WorkerGone
from emulator.workers.handler import HandlerError, HandlerKind
from emulator.workers.inline_worker import HANDLER_PATIENCE_S, InlineWorker, Surroundings
from emulator.workers.outcome import (
    CANCELLED_ITSELF,
    WorkerCrash,
    crash_unless_caught,
    error_in_chunk,
    result_of_exception,
    result_of_stream_exception,
    result_of_value,
)
from emulator.workers.progress import REPORTS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from emulator.core.job import Job
    from emulator.workers.workplaces import Workplace

#: A handler is quick when this many calls in a row took no longer than so many real seconds.
_QUICK_CALLS = 64
_QUICK_S = 0.0005
#: How many jobs a quick one takes at a time, and how long one of them may wait for its turn.
_BATCH = 16
_TURN_WITHIN_S = 0.01


#: What a handler mostly returns: asking `inspect` about it takes longer than many a handler.
_DATA_TYPES = frozenset({dict, list, str, int, float, bool, type(None)})
_NO_MORE = object()


class _Call:
    """One call of the handler in the thread."""

    __slots__ = ("_claim", "abandoned", "awaited", "job", "took_s")

    def __init__(self, job: Job) -> None:
        self.job = job
        #: Nobody waits for it any more.
        self.abandoned = False
        #: The task that awaits what a plain function returned.
        self.awaited: asyncio.Task[None] | None = None
        #: Real seconds it ran.
        self.took_s = 0.0
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """Whether the call is the caller's: the thread's, to run it, or the emulator's, to take it back."""
        return self._claim.acquire(blocking=False)


class _Stopped(BaseException):
    """What a plain function returned has been cancelled, as it was to be; or a handler whose job is over has
    reported its progress, which is where it can be stopped.
    """


class _CancelledItself(BaseException):
    """It has been cancelled, and nobody here has asked for that."""


class ThreadWorker(InlineWorker):
    """Takes jobs, has them run one after the other in its thread, and brings back the results in order."""

    def __init__(self, worker_id: str, surroundings: Surroundings, workplace: Workplace) -> None:
        super().__init__(worker_id, surroundings)
        self._workplace = workplace
        self._thread = workplace.thread
        self._thread.on_death = self._on_death
        self._has_left = False
        #: Whether the next worker can go on with the handler as this one leaves it.
        self._leaves_usable = True
        self._quick_calls = 0
        #: The jobs it holds, in the order in which they run.
        self._calls: dict[str, _Call] = {}
        self._all_ended: asyncio.Future[None] | None = None

    def end(self) -> None:
        """Take no more jobs. What runs cannot be stopped: it is left to itself, its result dropped."""
        for call in self._calls.values():
            call.abandoned = True
            call.claim()
        if not self._has_left:
            self._has_left = True
            self._workplace.leave(usable=self._leaves_usable and not self._calls)
        super().end()

    async def _serve(self) -> None:
        await self._have_handler()
        while True:
            self._ask_concurrency_modifier()
            limit = _BATCH if self._quick_calls >= _QUICK_CALLS else 1
            jobs = await self._gateway.take(
                self._id, limit=max(limit, self._concurrency), by_batch=self._concurrency > 1
            )
            with self._clock.activity(HANDLER_PATIENCE_S):
                await self._run_in_order(jobs)

    async def _have_handler(self) -> None:
        try:
            with self._clock.activity(HANDLER_PATIENCE_S):
                self._handler = await self._workplace.handler()
        except HandlerError as error:
            self._gateway.crashed(self._id, str(error))
            self.end()
            raise WorkerGone from error

    async def _run_in_order(self, jobs: list[Job]) -> None:
        loop = asyncio.get_running_loop()
        self._all_ended = loop.create_future()
        calls = [self._call_for(job) for job in jobs]
        self._thread.run(partial(self._run_calls, calls, at_once=self._concurrency > 1))
        # It is the thread's to drop each once it has run.
        del calls
        out_of_turn = None
        if len(jobs) > self._concurrency:
            out_of_turn = loop.call_later(_TURN_WITHIN_S, self._hand_back_waiting)
        try:
            await self._all_ended
        finally:
            if out_of_turn is not None:
                out_of_turn.cancel()

    def _call_for(self, job: Job) -> _Call:
        thread = self._thread
        call = self._calls[job.id] = _Call(job)

        def report(progress: object) -> None:
            if call.abandoned:
                if thread.is_current:
                    raise _Stopped
                return
            self._report_progress(job, progress, thread.post)

        REPORTS.receive(job.id, self._id, report)
        return call

    def _take_end(self, call: _Call, outcome: JobResult | BaseException) -> None:
        try:
            self._on_end(call, outcome)
        except Exception as error:
            self._fail(error)

    def _on_end(self, call: _Call, outcome: JobResult | BaseException) -> None:
        """A call has ended: report it."""
        job = call.job
        is_quick = call.took_s <= _QUICK_S and call.awaited is None
        self._quick_calls = self._quick_calls + 1 if is_quick else 0
        # First: a worker that is to go with its job's end leaves a thread in which nothing runs.
        self._forget(job.id)
        if isinstance(outcome, JobResult):
            self._leaves_usable = not outcome.stop_worker and not self._handler.refresh_worker
            self._finish(job, outcome)
        elif isinstance(outcome, _Stopped):
            self._gateway.let_go(self._id, job.id)
        elif isinstance(outcome, _CancelledItself):
            self._gateway.drop(self._id, job.id, CANCELLED_ITSELF)
        else:
            self._crash(outcome)

    def _on_death(self, error: BaseException) -> None:
        """The loop has ended under the handler, by what ends production's process too."""
        try:
            crash_unless_caught(error)
        except WorkerCrash as crash:
            self._crash(crash)
        else:
            self._crash(WorkerCrash(f"the handler ended the event loop ({error})"))

    def _crash(self, error: BaseException) -> None:
        if self._has_left:
            return
        self._leaves_usable = False
        self._hand_back_waiting()
        self._gateway.crashed(self._id, str(error))
        self.end()

    def _stop(self, job_id: str) -> None:
        call = self._calls.get(job_id)
        if call is not None and call.awaited is not None:
            call.abandoned = True
            self._thread.cancel(call.awaited)
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
        REPORTS.forget(job_id, self._id)
        self._calls.pop(job_id, None)
        if not self._calls and self._all_ended is not None and not self._all_ended.done():
            self._all_ended.set_result(None)

    # In the thread, on its loop

    async def _run_calls(self, calls: list[_Call], *, at_once: bool) -> None:
        """Run calls in order; `at_once` what they return to be awaited."""
        # A job is to live no longer than its call: pop.
        calls.reverse()
        while calls:
            if not (call := calls.pop()).claim():
                continue
            await self._run(call)
            if call.awaited is not None and not at_once:
                await asyncio.wait({call.awaited})
            elif self._thread.loop_is_used:
                # The SDK's loop turns between two jobs.
                await next_round()

    async def _run(self, call: _Call) -> None:
        began_s = real_seconds()
        outcome: JobResult | BaseException | None
        try:
            if self._handler.kind is HandlerKind.GENERATOR:
                outcome = await self._iterate(call)
            else:
                outcome = self._return(call)
        except WorkerCrash as crash:
            outcome = crash
        call.took_s = real_seconds() - began_s
        if outcome is not None:
            self._thread.post(self._take_end, call, outcome)

    def _return(self, call: _Call) -> JobResult | BaseException | None:
        """Call a plain function; None when what it returned is being awaited."""
        context = copy_context()
        try:
            value = context.run(self._handler.function, call.job.payload())
            if type(value) in _DATA_TYPES or not inspect.isawaitable(value):
                return result_of_value(value)
        except _Stopped as stopped:
            return stopped
        except BaseException as error:
            return result_of_exception(error, self._id)
        call.awaited = asyncio.get_running_loop().create_task(self._await(call, value), context=context)
        if inspect.iscoroutine(value):
            # It has not even begun when the task is cancelled at once.
            call.awaited.add_done_callback(lambda _: value.close())
        if call.abandoned:
            call.awaited.cancel()
        return None

    async def _await(self, call: _Call, awaitable: Awaitable[Any]) -> None:
        outcome: JobResult | BaseException
        try:
            outcome = result_of_value(await awaitable)
        except asyncio.CancelledError:
            outcome = _Stopped() if call.abandoned else _CancelledItself()
        except _Stopped as stopped:
            outcome = stopped
        except BaseException as error:
            outcome = self._outcome_of(error)
        self._thread.post(self._take_end, call, outcome)

    def _outcome_of(self, error: BaseException) -> JobResult | BaseException:
        """A handler's SystemExit that left its task would end the loop."""
        try:
            return result_of_exception(error, self._id)
        except WorkerCrash as crash:
            return crash

    async def _iterate(self, call: _Call) -> JobResult | BaseException:
        """Run a generator, chunk by chunk, until it ends or nobody wants it any more."""
        collected: list[bytes] = []
        context = copy_context()
        try:
            chunks = context.run(self._handler.function, call.job.payload())
            try:
                while (chunk := context.run(next, chunks, _NO_MORE)) is not _NO_MORE:
                    if (error := error_in_chunk(chunk)) is not None:
                        return JobResult(error=error)
                    chunk_json = encode(chunk, "chunk")
                    self._thread.post(self._gateway.push_chunk, self._id, call.job.id, chunk_json)
                    collected.append(chunk_json)
                    if call.abandoned:
                        break
                    if self._thread.loop_is_used:
                        await next_round()
            finally:
                chunks.close()
        except NotJSON as error:
            return JobResult(error=str(error))
        except _Stopped as stopped:
            return stopped
        except BaseException as error:
            return result_of_stream_exception(error)
        return self._stream_result(collected)
