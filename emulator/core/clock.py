"""The only place that reads real time, and the owner of every deadline in the emulator."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic, time
from typing import Any

from emulator.core.errors import ClockError
from emulator.core.timers import Timer, Timers

#: Loop rounds that let a chain of futures and tasks run to its end before time moves on.
_SETTLE_ROUNDS = 20


@dataclass(slots=True, frozen=True)
class FiredTimer:
    """A timer that `Clock.advance` fired: when (ms since the epoch) and what it was for."""

    at_ms: int
    kind: str


class Activity:
    """Work whose end the clock waits for, within reason, before `advance` moves time any further."""

    __slots__ = ("_all", "_patience_s", "_token", "_waiting_since")

    def __init__(self, activities: set[Activity], patience_s: float) -> None:
        self._all = activities
        self._patience_s = patience_s
        #: Real seconds at which the work began to hold the clock; None while it does not.
        self._waiting_since: float | None = None

    def __enter__(self) -> None:
        self._waiting_since = monotonic()
        self._all.add(self)
        self._token = _current_activity.set(self)

    def __exit__(self, *_: object) -> None:
        self._all.discard(self)
        _current_activity.reset(self._token)

    def held_for_s(self) -> float:
        """Real seconds for which it may still hold the clock; 0 when it no longer does."""
        if self._waiting_since is None:
            return 0.0
        return max(0.0, self._waiting_since + self._patience_s - monotonic())

    def pause(self) -> None:
        """The work waits for the clock itself: it must not hold it."""
        self._waiting_since = None

    def resume(self) -> None:
        """The work goes on after a pause."""
        self._waiting_since = monotonic()


_current_activity: ContextVar[Activity | None] = ContextVar("current_activity", default=None)


class Clock:
    """Time as `base + rate * real time since base`: rate 1 is real, 0 is frozen, 60 is a minute a second.

    All instants are integer milliseconds since the Unix epoch, all durations integer milliseconds.
    """

    def __init__(self, *, rate: float = 1.0, start_ms: int | None = None) -> None:
        if not math.isfinite(rate) or rate < 0:
            raise ClockError(
                f"the clock's rate is {rate}: it must be 0 (frozen), 1 (real) or a positive factor"
            )
        self._initial_rate = rate
        self._rate = rate
        self._base_ms = int(time() * 1000) if start_ms is None else start_ms
        self._real_base_s = monotonic()
        self._timers = Timers()
        self._wakeup: asyncio.TimerHandle | None = None
        #: The deadline for which the loop is armed.
        self._armed_ms: float = math.inf
        self._activities: set[Activity] = set()
        self._advancing: asyncio.Lock | None = None
        #: What has fired since the advance under way began.
        self._fired: list[FiredTimer] | None = None

    @property
    def rate(self) -> float:
        """Emulated milliseconds that pass in a real one."""
        return self._rate

    @property
    def mode(self) -> str:
        """`frozen`, `real` or `scaled:N`."""
        if self._rate == 0:
            return "frozen"
        return "real" if self._rate == 1 else f"scaled:{self._rate:g}"

    def now_ms(self) -> int:
        """The emulated time, ms since the epoch."""
        if self._rate == 0:
            return self._base_ms
        return self._base_ms + int((monotonic() - self._real_base_s) * 1000 * self._rate)

    # Timers

    def call_at(self, when_ms: int, kind: str, callback: Callable[[Any], object], argument: object) -> Timer:
        """Call `callback(argument)` once the time is `when_ms`; `kind` says what the deadline is for."""
        timer = self._timers.add(when_ms, kind, callback, argument)
        if when_ms < self._armed_ms:
            self._arm()
        return timer

    def call_later(
        self, delay_ms: int, kind: str, callback: Callable[[Any], object], argument: object
    ) -> Timer:
        """Call `callback(argument)` after `delay_ms`; see `call_at`."""
        return self.call_at(self.now_ms() + delay_ms, kind, callback, argument)

    def cancel(self, timer: Timer | None) -> None:
        """Disarm a timer; one that has fired, or was disarmed before, is left as it is."""
        if timer is not None and timer.callback is not None:
            self._timers.cancel(timer)

    def pending(self) -> list[Timer]:
        """The armed timers, earliest first."""
        return sorted(self._timers)

    def pending_count(self) -> int:
        """How many timers are armed."""
        return len(self._timers)

    def next_timer(self) -> Timer | None:
        """The earliest armed timer."""
        return self._timers.first()

    async def sleep(self, delay_ms: int, kind: str = "sleep") -> None:
        """Wait for `delay_ms` of emulated time; `kind` names the wait among the timers."""
        future = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay_ms, kind, _wake, future)
        activity = _current_activity.get()
        if activity is not None:
            activity.pause()
        try:
            await future
        finally:
            self.cancel(timer)
            if activity is not None:
                activity.resume()

    # Moving time

    def freeze(self) -> None:
        """Stop time; only `advance` moves it from here."""
        self._set_rate(0.0)

    def resume(self) -> None:
        """Let time run again, at the rate it was made with (1 if it was made frozen)."""
        self._set_rate(self._initial_rate or 1.0)

    def restore(self) -> None:
        """Go back to the rate the clock was made with; the time itself is kept."""
        self._set_rate(self._initial_rate)

    async def advance(self, by_ms: int) -> list[FiredTimer]:
        """Move time forward by `by_ms`, firing due timers in order.

        After each instant at which timers fire, the work they cause settles before time moves on:
        a handler that has just started gets a moment of real time to finish, a webhook call to be
        answered. Returns what fired.

        :raises ClockError: `by_ms` is negative.
        """
        if by_ms < 0:
            raise ClockError(f"cannot advance by {by_ms} ms: time only moves forward")
        if self._advancing is None:
            self._advancing = asyncio.Lock()
        async with self._advancing:
            await self.settle()
            target_ms = self.now_ms() + by_ms
            fired = self._fired = []
            try:
                while (timer := self.next_timer()) is not None and timer.when_ms <= target_ms:
                    self._jump(timer.when_ms)
                    self._fire_due()
                    await self.settle()
                self._jump(target_ms)
            finally:
                self._fired = None
                self._arm()
            return fired

    async def settle(self) -> None:
        """Return once everything that can happen without time moving has happened."""
        while True:
            for _ in range(_SETTLE_ROUNDS):
                await next_round()
            patience_s = max((activity.held_for_s() for activity in self._activities), default=0.0)
            if patience_s == 0:
                return
            await next_round(min(patience_s, 0.001))

    def activity(self, patience_s: float) -> Activity:
        """Holds `advance` back while its `with` block runs, for at most `patience_s` real seconds."""
        return Activity(self._activities, patience_s)

    def _set_rate(self, rate: float) -> None:
        self._base_ms = self.now_ms()
        self._real_base_s = monotonic()
        self._rate = rate
        self._arm()

    def _jump(self, to_ms: int) -> None:
        self._base_ms = max(to_ms, self.now_ms())
        self._real_base_s = monotonic()

    def _fire_due(self) -> None:
        now_ms = self.now_ms()
        while (timer := self.next_timer()) is not None and timer.when_ms <= now_ms:
            self._timers.remove_first(timer)
            callback, argument = timer.callback, timer.argument
            timer.disarm()
            if self._fired is not None:
                self._fired.append(FiredTimer(timer.when_ms, timer.kind))
            assert callback is not None
            callback(argument)

    def _arm(self) -> None:
        """Have the loop call back at the earliest deadline; a frozen clock reaches none but those due now."""
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        self._armed_ms = math.inf
        timer = self.next_timer()
        if timer is None:
            return
        wait_ms = max(0, timer.when_ms - self.now_ms())
        if wait_ms and self._rate == 0:
            return
        delay_s = wait_ms / 1000 / self._rate if wait_ms else 0.0
        self._armed_ms = timer.when_ms
        self._wakeup = asyncio.get_running_loop().call_later(delay_s, self._on_wakeup)

    def _on_wakeup(self) -> None:
        self._wakeup = None
        try:
            self._fire_due()
        finally:
            self._arm()

    def close(self) -> None:
        """Disarm everything."""
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        self._timers.clear()
        self._armed_ms = math.inf


class VirtualClock(Clock):
    """A clock that stands still until it is advanced: a day's ttl is tested in no time at all.

    `start_ms` is the time it starts at, ms since the epoch; the present when not given.
    """

    def __init__(self, start_ms: int | None = None) -> None:
        super().__init__(rate=0.0, start_ms=start_ms)


def real_seconds() -> float:
    """Real time from an arbitrary start: to measure how long real work took, never to wait for anything."""
    return monotonic()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def next_round(delay_s: float = 0.0) -> Awaitable[None]:
    """Give the loop a round (or a real moment) in which sockets, threads and other tasks get on."""
    return asyncio.sleep(delay_s)
