"""Says in the log why jobs wait, when they do so for some seconds of real time, whatever the clock says."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from emulator.core.waiting import Cause, wait_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job

log = logging.getLogger("emulator")

#: Real seconds from one look at the queues to the next, while there is a job in one. A job that is the
#: first at two of them waits.
_LOOK_S = 3.0
#: Of these the log has told already, by themselves.
_TOLD_ELSEWHERE = frozenset({Cause.START_FAILS, Cause.LOW_PRIORITY})


class QueueWatch:
    """Looks at the queues of all endpoints while a job is in one; tells each reason once per endpoint."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._timer: asyncio.TimerHandle | None = None
        #: Per endpoint the job that was first at the last look, and when it had entered the queue.
        self._first: dict[Endpoint, tuple[Job, int]] = {}
        self._told: set[tuple[Endpoint, Cause]] = set()

    def job_came(self) -> None:
        """A job enters a queue."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        before, self._first = self._first, {}
        for endpoint in self._endpoints.values():
            job = next(endpoint.queued(), None)
            if job is None:
                continue
            self._first[endpoint] = (job, job.queued_ms)
            if before.get(endpoint) == (job, job.queued_ms):
                self._tell(endpoint, job)
        self._told = {told for told in self._told if self._endpoints.get(told[0].id) is told[0]}
        if self._first:
            self.job_came()

    def _tell(self, endpoint: Endpoint, job: Job) -> None:
        wait = wait_of(endpoint, job)
        if wait is None or wait.cause in _TOLD_ELSEWHERE or (endpoint, wait.cause) in self._told:
            return
        self._told.add((endpoint, wait.cause))
        fields = {
            "event": "notice", "endpoint": endpoint.id, "job_id": job.id,
            "clock_ms": endpoint.clock.now_ms(),
        }  # fmt: skip
        log.log(
            logging.WARNING if wait.endless else logging.INFO,
            "%s job %s: waiting: %s",
            endpoint.id,
            job.id,
            wait.told,
            extra={"fields": fields},
        )
