"""The wait in the queue that has another worker started (wire.md 6, QUEUE_DELAY)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from emulator.clock.clock import Clock
    from emulator.clock.timers import Timer
    from emulator.core.config import EndpointConfig
    from emulator.core.job import Job
    from emulator.core.queue import JobQueue


class QueueDelay:
    """Knows which jobs have waited for longer than `scalerValue` s, and calls when another one has."""

    def __init__(
        self, config: EndpointConfig, clock: Clock, queue: JobQueue, on_overdue: Callable[[], None]
    ) -> None:
        self._config = config
        self._clock = clock
        self._queue = queue
        self._call = on_overdue
        #: Armed for the moment at which a queued job will have waited too long.
        self._timer: Timer | None = None

    def configure(self, config: EndpointConfig) -> None:
        """Go by other settings from now on."""
        self._config = config
        self.stop()

    @property
    def watches(self) -> bool:
        """Whether a job's wait is being timed."""
        return self._timer is not None

    def overdue(self) -> int:
        """How many jobs have waited too long; at most as many as there could be workers."""
        overdue_from_ms = self._clock.now_ms() - self._limit_ms
        return sum(job.queued_ms <= overdue_from_ms for job in self._oldest())

    def watch(self) -> None:
        """Time the wait of the first job that has not waited too long yet."""
        if self._timer is not None:
            return
        now_ms = self._clock.now_ms()
        for job in self._oldest():
            due_ms = job.queued_ms + self._limit_ms
            if due_ms > now_ms:
                self._timer = self._clock.call_at(due_ms, "queue delay", self._on_due, None)
                return

    def stop(self) -> None:
        """Time no more."""
        self._clock.cancel(self._timer)
        self._timer = None

    @property
    def _limit_ms(self) -> int:
        return self._config.scaler_value * 1000

    def _oldest(self) -> Iterable[Job]:
        """As many queued jobs as there could be workers: more cannot matter."""
        return islice(self._queue.scaling_jobs(), self._config.workers_max)

    def _on_due(self, _: object) -> None:
        self._timer = None
        self._call()
