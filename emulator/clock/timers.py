"""The timers of a clock, in order of their deadlines; setting and cancelling one costs next to nothing."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Dead timers are swept out once they are this many and outnumber the live ones.
_SWEEP_FROM = 1024


class Timer:
    """A deadline on the clock; `Clock.cancel` disarms it."""

    __slots__ = ("_order", "argument", "callback", "kind", "when_ms")

    def __init__(
        self, when_ms: int, order: int, kind: str, callback: Callable[[Any], object], argument: object
    ) -> None:
        self.when_ms = when_ms
        self._order = order
        self.kind = kind
        #: None once it has fired or been cancelled.
        self.callback: Callable[[Any], object] | None = callback
        self.argument = argument

    def __lt__(self, other: Timer) -> bool:
        if self.when_ms == other.when_ms:
            return self._order < other._order
        return self.when_ms < other.when_ms

    def disarm(self) -> None:
        """Let go of what it would have called."""
        self.callback = self.argument = None


class Timers:
    """A lane for each kind of timer, and a heap for the few that do not fit at the end of theirs.

    Timers of one kind mostly run for the same time (a ttl, a retention), so that a new one belongs at the
    end: no comparisons, where a heap of a million would need twenty.
    """

    def __init__(self) -> None:
        self._lanes: defaultdict[str, deque[Timer]] = defaultdict(deque)
        self._heap: list[Timer] = []
        self._order = 0
        self._dead = 0

    def __len__(self) -> int:
        return self._held() - self._dead

    def __iter__(self) -> Iterator[Timer]:
        return (timer for timer in chain(self._heap, *self._lanes.values()) if timer.callback is not None)

    def add(self, when_ms: int, kind: str, callback: Callable[[Any], object], argument: object) -> Timer:
        """Set a timer."""
        self._order += 1
        timer = Timer(when_ms, self._order, kind, callback, argument)
        lane = self._lanes[kind]
        if lane and lane[-1].when_ms > when_ms:
            heapq.heappush(self._heap, timer)
        else:
            lane.append(timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Disarm a timer that is armed; it leaves memory with the next sweep at the latest."""
        timer.callback = timer.argument = None
        # Mostly it is the last of its lane, or the first: then one goes for one that dies.
        lane = self._lanes[timer.kind]
        if lane and lane[-1].callback is None:
            lane.pop()
        elif lane and lane[0].callback is None:
            lane.popleft()
        else:
            self._dead += 1
            if self._dead > _SWEEP_FROM and self._dead * 2 > self._held():
                self._sweep()

    def first(self) -> Timer | None:
        """The earliest armed timer."""
        while self._heap and self._heap[0].callback is None:
            heapq.heappop(self._heap)
            self._dead -= 1
        first = self._heap[0] if self._heap else None
        for lane in self._lanes.values():
            while lane and lane[0].callback is None:
                lane.popleft()
                self._dead -= 1
            if lane and (first is None or lane[0] < first):
                first = lane[0]
        return first

    def remove_first(self, timer: Timer) -> None:
        """Take out the timer that `first` has just given."""
        if self._heap and self._heap[0] is timer:
            heapq.heappop(self._heap)
        else:
            self._lanes[timer.kind].popleft()

    def clear(self) -> None:
        """Disarm all."""
        for timer in self:
            timer.disarm()
        self._lanes.clear()
        self._heap.clear()
        self._dead = 0

    def _held(self) -> int:
        """How many are in memory, the dead among them."""
        return len(self._heap) + sum(map(len, self._lanes.values()))

    def _sweep(self) -> None:
        self._heap = [timer for timer in self._heap if timer.callback is not None]
        heapq.heapify(self._heap)
        for kind, lane in self._lanes.items():
            self._lanes[kind] = deque(timer for timer in lane if timer.callback is not None)
        self._dead = 0
