"""Clients that wait for the end of a job: not for ever on a clock that stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.core.job import JobStatus
from emulator.core.waiting import Cause, wait_of

if TYPE_CHECKING:
    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job

#: Says, beside an answer in production's form, why it came before the job had ended.
HINT_HEADER = b"x-emulator-hint"


async def wait_for_end(endpoint: Endpoint, job: Job, limit_ms: int) -> str:
    """Wait for the end of a job for up to `limit_ms`; returns what it waits for, in a sentence, when it does
    so in vain, and nothing otherwise.
    """
    until_ms = endpoint.clock.now_ms() + limit_ms
    while not await endpoint.wait(job, limit_ms):
        limit_ms = max(0, until_ms - endpoint.clock.now_ms())
        wait = wait_of(endpoint, job)
        if wait is None or wait.cause is Cause.NEXT_TAKE:
            # A worker is about to ask for it: that takes no emulated time.
            continue
        if job.status is JobStatus.IN_PROGRESS:
            endpoint.life.advise(f"a client waits in vain: {wait.told}", job)
        return wait.told
    return ""
