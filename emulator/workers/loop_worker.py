"""A worker that runs an async handler on the emulator's event loop."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from emulator.clock.real_time import next_round, real_seconds
from emulator.core.json_text import NotJSON, encode
from emulator.core.result import JobResult
from emulator.errors import WorkerGone
from emulator.workers.handler import HandlerKind
from emulator.workers.inline_worker import HANDLER_PATIENCE_S, InlineWorker, Surroundings
from emulator.workers.outcome import (
    CANCELLED_ITSELF,
    ResultLost,
    WorkerCrash,
    error_in_chunk,
    result_of_exception,
    result_of_stream_exception,
    result_of_value,
)
from emulator.workers.progress import REPORTS

if TYPE_CHECKING:
    from emulator.core.job import Job


#: Real seconds after which a lane lets the loop's other tasks get on.
_HOLDS_LOOP_S = 0.002


class LoopWorker(InlineWorker):
    """As many lanes as it runs jobs at once, each taking and running one job at a time."""

    def __init__(self, worker_id: str, surroundings: Surroundings) -> None:
        super().__init__(worker_id, surroundings)
        self._lanes: set[int] = set()
        #: The lane that runs each job.
        self._running: dict[str, asyncio.Task[None]] = {}
        #: Jobs whose lane has been cancelled to stop them.
        self._stopped: set[str] = set()

    async def _serve(self) -> None:
        self._lanes.add(0)
        await self._lane(0)

    async def _lane(self, number: int) -> None:
        yielded_s = real_seconds()
        while self._is_wanted(number):
            for job in await self._gateway.take(self._id, by_batch=self._concurrency > 1):
                await self._run(job)
            if self._gateway.has_queue and real_seconds() - yielded_s > _HOLDS_LOOP_S:
                # Neither a take from a queue nor a quick handler ever waits.
                await next_round()
                yielded_s = real_seconds()
        self._lanes.discard(number)

    def _is_wanted(self, number: int) -> bool:
        """Whether this lane takes another job; starts the lanes that are missing."""
        self._ask_concurrency_modifier()
        for other in range(1, self._concurrency):
            if other not in self._lanes:
                self._lanes.add(other)
                self._keep(self._until_gone(self._lane(other)))
        return number < self._concurrency

    async def _run(self, job: Job) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running[job.id] = task
        REPORTS.receive(job.id, self._id, lambda progress: self._report_progress(job, progress))
        try:
            with self._clock.activity(HANDLER_PATIENCE_S):
                result = await self._call_handler(job)
        except asyncio.CancelledError:
            if job.id in self._stopped:
                self._gateway.let_go(self._id, job.id)
            elif self._is_ending():
                raise
            else:
                # As in production: nothing comes of the job, and its worker goes on.
                await _absorb_cancellation(task)
                self._gateway.drop(self._id, job.id, CANCELLED_ITSELF)
        except ResultLost as lost:
            self._gateway.drop(self._id, job.id, str(lost))
        except WorkerCrash as crash:
            self._gateway.crashed(self._id, str(crash))
            self.end()
            raise WorkerGone from crash
        else:
            if task.cancelling() and job.id not in self._stopped and not self._is_ending():
                await _absorb_cancellation(task)
            self._finish(job, result)
        finally:
            del self._running[job.id]
            REPORTS.forget(job.id, self._id)
            if job.id in self._stopped:
                self._stopped.discard(job.id)
                task.uncancel()

    def _is_ending(self) -> bool:
        """Whether all its tasks are cancelled, by whoever ends the worker or the loop."""
        return self._has_ended or self._watching.done() or self._watching.cancelling() > 0

    def _stop(self, job_id: str) -> None:
        if (lane := self._running.get(job_id)) is not None:
            self._stopped.add(job_id)
            lane.cancel()
        else:
            self._gateway.let_go(self._id, job_id)

    async def _call_handler(self, job: Job) -> JobResult:
        if self._handler.kind is HandlerKind.ASYNC_GENERATOR:
            return await self._stream(job)
        try:
            return result_of_value(await self._handler.function(job.payload()))
        except (asyncio.CancelledError, ResultLost):
            raise
        except BaseException as error:
            return result_of_exception(error, self._id)

    async def _stream(self, job: Job) -> JobResult:
        collected: list[bytes] = []
        try:
            async with aclosing(self._handler.function(job.payload())) as chunks:
                async for chunk in chunks:
                    if (error := error_in_chunk(chunk)) is not None:
                        return JobResult(error=error)
                    chunk_json = encode(chunk, "chunk")
                    self._gateway.push_chunk(self._id, job.id, chunk_json)
                    collected.append(chunk_json)
        except NotJSON as error:
            return JobResult(error=str(error))
        except (asyncio.CancelledError, ResultLost):
            raise
        except BaseException as error:
            return result_of_stream_exception(error)
        return self._stream_result(collected)


async def _absorb_cancellation(task: asyncio.Task[None]) -> None:
    """A handler has cancelled the task it shares with its lane: the lane is to hear nothing of that."""
    while task.cancelling():
        task.uncancel()
    # It may not have struck yet.
    with suppress(asyncio.CancelledError):
        await next_round()
