"""A worker of an endpoint without a handler: it answers by stubs, and while there are none, as the mock
worker does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.core.result import JobResult
from emulator.scenario.stubs import NoStubMatches
from emulator.workers.loop_worker import LoopWorker
from emulator.workers.outcome import result_of_exception
from emulator.workers.spoken import Spoken

if TYPE_CHECKING:
    from emulator.core.job import Job


class StubWorker(LoopWorker):
    """Takes its time, its chunks and its result from the stub that matches the job's input."""

    async def _call_handler(self, job: Job) -> JobResult:
        stubs = self._handler.stubs
        if not stubs:
            return await super()._call_handler(job)
        try:
            stub = stubs.take(job.input)
        except NoStubMatches as error:
            return JobResult(error=str(error))
        except Exception as error:
            return result_of_exception(error, self._id)
        chunks, result = stub.chunks, JobResult(output_json=stub.output_json)
        if stub.error is not None:
            result = JobResult(error=stub.error)
        elif stub.says is not None:
            spoken = Spoken(stub.says, job.input, job.id, self._clock.now_ms() // 1000)
            chunks, result = spoken.chunks(), spoken.result()
        steps = [
            *((self._gateway.report_progress, progress) for progress in stub.progress),
            *((self._gateway.push_chunk, chunk) for chunk in chunks),
        ]
        # Half of what is there to see has been seen half-way through.
        pauses, waited_ms = len(steps) + 1, 0
        for number, (tell, part) in enumerate(steps):
            until_ms = stub.delay_ms * (number + 1) // pauses
            await self._pause(job, until_ms - waited_ms)
            waited_ms = until_ms
            tell(self._id, job.id, part)
        await self._pause(job, stub.delay_ms - waited_ms)
        return result

    async def _pause(self, job: Job, delay_ms: int) -> None:
        if delay_ms:
            await self._clock.sleep(delay_ms, "stub's delay", job.id)
