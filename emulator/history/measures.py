"""What can be counted and timed of an endpoint: for charts, and for programs that collect figures."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from emulator.core.events import JobMoved, WorkerMoved
from emulator.core.job import TERMINAL, JobStatus
from emulator.core.worker import WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emulator.core.endpoint import Endpoint
    from emulator.core.events import Event

#: The newest of each kind.
_SAMPLES_KEPT = 5_000
_WORKERS_EVERY_MS = 100
PERCENTILES = (70, 90, 98)
#: Upper bounds of the histograms, s.
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Duration:
    """Durations of one kind: all of them counted, the newest kept."""

    __slots__ = ("buckets", "newest", "total_s")

    def __init__(self) -> None:
        #: When it was over, and how long it took, ms.
        self.newest: deque[tuple[int, int]] = deque(maxlen=_SAMPLES_KEPT)
        #: How many took at most so long (`BUCKETS_S`), and longer.
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.total_s = 0.0

    def add(self, at_ms: int, took_ms: int) -> None:
        """One more."""
        took_s = took_ms / 1000
        self.newest.append((at_ms, took_ms))
        self.total_s += took_s
        self.buckets[bisect_left(BUCKETS_S, took_s)] += 1


@dataclass(slots=True)
class Counts:
    """How many workers were in each state from some moment on."""

    at_ms: int
    states: dict[str, int]


@dataclass(slots=True)
class Measures:
    """The figures of one endpoint."""

    endpoint: Endpoint
    #: Ends of jobs by state: all that there were, and when the newest were.
    ends: Counter[JobStatus] = field(default_factory=Counter)
    newest_ends: deque[tuple[int, JobStatus]] = field(default_factory=lambda: deque(maxlen=_SAMPLES_KEPT))
    submitted: int = 0
    #: Jobs that went back to the queue: their worker was lost, or a client retried them.
    requeued: int = 0
    newest_requeues: deque[int] = field(default_factory=lambda: deque(maxlen=_SAMPLES_KEPT))
    delay: Duration = field(default_factory=Duration)
    execution: Duration = field(default_factory=Duration)
    cold_start: Duration = field(default_factory=Duration)
    workers: deque[Counts] = field(default_factory=lambda: deque(maxlen=_SAMPLES_KEPT))
    _starting: dict[str, int] = field(default_factory=dict)

    def on_event(self, event: Event) -> None:
        """Count what the core tells of."""
        if not isinstance(event, JobMoved):
            if isinstance(event, WorkerMoved):
                self._count_worker(event)
            return
        job = event.job
        if job.status is JobStatus.IN_PROGRESS:
            self.delay.add(event.at_ms, job.delay_ms or 0)
            self._count_workers(event.at_ms)
        elif job.status is not JobStatus.IN_QUEUE:
            self.ends[job.status] += 1
            self.newest_ends.append((event.at_ms, job.status))
            if job.execution_ms is not None:
                self.execution.add(event.at_ms, job.execution_ms)
            self._count_workers(event.at_ms)
        elif event.before is None:
            self.submitted += 1
        else:
            self.requeued += 1
            self.newest_requeues.append(event.at_ms)

    def _count_worker(self, event: WorkerMoved) -> None:
        self._count_workers(event.at_ms)
        if event.after is WorkerState.INITIALIZING:
            self._starting[event.worker_id] = event.at_ms
        elif (began_ms := self._starting.pop(event.worker_id, None)) is not None and (
            event.after is WorkerState.IDLE
        ):
            self.cold_start.add(event.at_ms, event.at_ms - began_ms)

    def _count_workers(self, at_ms: int) -> None:
        # Thousands of quick jobs a second change nothing that a chart would show.
        if not self.workers or at_ms - self.workers[-1].at_ms >= _WORKERS_EVERY_MS:
            self._note_workers(at_ms)

    def _note_workers(self, at_ms: int) -> None:
        states = {state.value: count for state, count in self.endpoint.pool.counts().items() if count}
        if not self.workers or self.workers[-1].states != states:
            self.workers.append(Counts(at_ms, states))

    def charted(self, window_ms: int, points: int) -> dict[str, Any]:
        """The last `window_ms` ms in so many steps, as JSON: a list with a value a step for each figure."""
        now_ms = self.endpoint.clock.now_ms()
        self._note_workers(now_ms)
        steps = _Steps(now_ms - window_ms, window_ms / points, points)
        ends = {
            status.value.lower(): steps.counts(at_ms for at_ms, ended in self.newest_ends if ended is status)
            for status in sorted(TERMINAL)
        }
        timed = {"delay": self.delay, "execution": self.execution, "cold_start": self.cold_start}
        return {
            "now_ms": now_ms,
            "at_ms": [round(steps.begin_ms + (i + 1) * steps.step_ms) for i in range(points)],
            "ended": ends,
            "requeued": steps.counts(self.newest_requeues),
            "cold_starts": steps.counts(at_ms for at_ms, _ in self.cold_start.newest),
            **{f"{name}_ms": steps.percentiles(each.newest) for name, each in timed.items()},
            "workers": {state.value: steps.levels(self.workers, state.value) for state in WorkerState},
            "totals": {
                "submitted": self.submitted,
                "requeued": self.requeued,
                **{status.value.lower(): self.ends[status] for status in sorted(TERMINAL)},
            },
        }


@dataclass(slots=True, frozen=True)
class _Steps:
    """A stretch of time, cut into steps."""

    begin_ms: int
    step_ms: float
    count: int

    def _step(self, at_ms: int) -> int | None:
        step = int((at_ms - self.begin_ms) // self.step_ms)
        return min(step, self.count - 1) if step >= 0 else None

    def counts(self, moments: Iterable[int]) -> list[int]:
        """How many moments are in each step."""
        counted = Counter(map(self._step, moments))
        return [counted[step] for step in range(self.count)]

    def percentiles(self, samples: Iterable[tuple[int, int]]) -> dict[str, list[int | None]]:
        """Of the values in each step; None where there are none."""
        values: list[list[int]] = [[] for _ in range(self.count)]
        for at_ms, value in samples:
            if (step := self._step(at_ms)) is not None:
                values[step].append(value)
        for each in values:
            each.sort()
        return {f"p{rank}": [percentile(each, rank) for each in values] for rank in PERCENTILES}

    def levels(self, changes: Iterable[Counts], state: str) -> list[int]:
        """The highest level within each step of what changed at these moments."""
        levels = [0] * self.count
        level, reached = 0, 0
        for change in changes:
            step = self._step(change.at_ms)
            if step is not None:
                for passed in range(reached, step):
                    levels[passed] = max(levels[passed], level)
                reached = step
                levels[step] = max(levels[step], level)
            level = change.states.get(state, 0)
            if step is not None:
                levels[step] = max(levels[step], level)
        for passed in range(reached, self.count):
            levels[passed] = max(levels[passed], level)
        return levels


def percentile(ordered: list[int], rank: int) -> int | None:
    """The value that `rank` per cent of these ordered values do not exceed; None when there are none."""
    return ordered[max(0, -(-len(ordered) * rank // 100) - 1)] if ordered else None
