"""What workers have written, kept for a while: the newest lines of the newest workers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from emulator.clock.wakeup import Wakeup
from emulator.history.recent import Recent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from emulator.clock.clock import Clock
    from emulator.core.events import WorkerWrote
    from emulator.history.event_feed import EventFeed

_LINES_PER_WORKER = 1_000
_BYTES_PER_WORKER = 256 * 1024
_WORKERS_KEPT = 100


@dataclass(slots=True, frozen=True)
class LoggedLine:
    """A line of a worker's output, numbered in the order in which all lines came."""

    number: int
    at_ms: int
    worker_id: str
    job_id: str | None
    stream: str
    level: str | None
    text: str

    @property
    def size(self) -> int:
        """How long it is."""
        return len(self.text)


class WorkerLogs:
    """Bounded, whatever workers write: old lines go, and so do the lines of workers long gone."""

    def __init__(self, clock: Clock, feed: EventFeed) -> None:
        self._clock = clock
        self._feed = feed
        self._tails: dict[str, Recent[LoggedLine]] = {}
        self._last_number = 0
        self._changed = Wakeup()
        self._released = False

    def add(self, event: WorkerWrote) -> None:
        """Keep a line."""
        tail = self._tails.get(event.worker_id)
        if tail is None:
            tail = self._tails[event.worker_id] = Recent(_LINES_PER_WORKER, _BYTES_PER_WORKER)
            while len(self._tails) > _WORKERS_KEPT:
                del self._tails[next(iter(self._tails))]
        self._last_number += 1
        line = event.line
        logged = LoggedLine(
            self._last_number, event.at_ms, event.worker_id, event.job_id, line.stream, line.level, line.text
        )
        tail.add(logged)
        self._feed.add("log", partial(_told, event.endpoint_id, logged), 200 + len(line.text))
        self._changed.notify()

    def notify(self) -> None:
        """Have followers look whether what they follow has ended."""
        if self._changed.waiters:
            self._changed.notify()

    def release(self) -> None:
        """End what is being followed."""
        self._released = True
        self._changed.notify()

    def clear(self) -> int:
        """Forget all lines; returns how many there were."""
        cleared = sum(map(len, self._tails.values()))
        self._tails.clear()
        return cleared

    def knows(self, worker_id: str) -> bool:
        """Whether any line of the worker is kept."""
        return worker_id in self._tails

    def newest(self, limit: int, after: int = 0) -> list[LoggedLine]:
        """The newest lines of all workers, oldest first, from the one after number `after` on."""
        lines = [line for tail in self._tails.values() for line in tail if line.number > after]
        return sorted(lines, key=lambda line: line.number)[-limit:] if limit else []

    def of_worker(self, worker_id: str, after: int = 0) -> list[LoggedLine]:
        """A worker's lines, from the one after number `after` on."""
        return [line for line in self._tails.get(worker_id, ()) if line.number > after]

    def of_job(self, job_id: str, after: int = 0) -> list[LoggedLine]:
        """The lines about a job, whichever workers had it, from the one after number `after` on."""
        found = [
            line
            for tail in self._tails.values()
            for line in tail
            if line.number > after and line.job_id == job_id
        ]
        return sorted(found, key=lambda line: line.number)

    async def follow(
        self, read: Callable[[int], list[LoggedLine]], has_ended: Callable[[], bool], after: int = 0
    ) -> AsyncIterator[LoggedLine]:
        """The lines that `read(after)` gives, those there are and those to come, until `has_ended()`."""
        while True:
            ended = has_ended() or self._released
            lines = read(after)
            for line in lines:
                after = line.number
                yield line
            # While those were being handed on, more may have come.
            if not lines:
                if ended:
                    return
                await self._changed.wait(self._clock, None, "log")


def _told(endpoint_id: str, line: LoggedLine) -> dict[str, Any]:
    return {"endpoint": endpoint_id, **asdict(line)}
