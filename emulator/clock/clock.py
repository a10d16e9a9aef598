"""The emulated time, and every deadline in the emulator."""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from emulator.clock.activities import Activities, Activity, current_activity, wake
from emulator.clock.modes import RATE_MAX, RATE_MIN, parse_mode
from emulator.clock.real_time import next_round, real_seconds, wall_clock_ms
from emulator.clock.timers import Timer, Timers
from emulator.clock.waiting import Waiting, Waits
from emulator.errors import ClockError

log = logging.getLogger("emulator.clock")

#: Where time ends: no calendar goes beyond the year 9999.
LATEST_MS = 253_402_300_799_999
_LOOKED_AT_AGAIN_S = 86_400.0
#: Loop rounds that let a chain of futures and tasks run to its end before time moves on.
_SETTLE_ROUNDS = 20
#: Real seconds for which `advance_until` waits for work that takes real time: a process's start, a handler.
_WORK_PATIENCE_S = 10.0
#: Enough for anything that a job's life can bring.
UNTIL_MAX_MS = 30 * 86_400_000


@dataclass(slots=True, frozen=True)
class FiredTimer:
    """A timer that `Clock.advance` fired: when (ms since the epoch), what it was for, and whose it was."""

    at_ms: int
    kind: str
    #: The id of the job, or else of the worker, that it was about.
    subject: str | None = None


class Clock:
    """Time as `base + rate * real time since base`: rate 1 is real, 0 is frozen, 60 is a minute a second.

    An `auto` clock is a real one that does not let anyone wait in vain: while a client waits and nothing is
    being executed, it jumps from one timer to the next.

    All instants are integer milliseconds since the Unix epoch, all durations integer milliseconds.

    :raises ClockError: the rate is not one.
    """

    def __init__(self, *, rate: float = 1.0, start_ms: int | None = None, auto: bool = False) -> None:
        if rate and not RATE_MIN <= rate <= RATE_MAX:
            raise ClockError(
                f"the clock's rate is {rate}: it must be 0 (frozen), 1 (real) or a factor"
                f" from {RATE_MIN:g} to {RATE_MAX}"
            )
        if start_ms is not None and not 0 <= start_ms <= LATEST_MS:
            raise ClockError(f"the clock's start_ms is {start_ms}: it must be from 0 to {LATEST_MS} (9999)")
        self._initial_rate = rate
        self._initially_auto = auto
        self._rate = rate
        self._auto = auto
        self._base_ms = wall_clock_ms() if start_ms is None else start_ms
        self._real_base_s = real_seconds()
        self._timers = Timers()
        self._wakeup: asyncio.TimerHandle | None = None
        #: The deadline for which the loop is armed.
        self._armed_ms: float = math.inf
        self._activities = Activities()
        #: Something has ended, or changed: perhaps nothing is being executed now.
        self.nudge = self._activities.nudge
        self._waits = Waits(self._frozen_at, self._activities.any)
        self._skipping: asyncio.Task[None] | None = None
        self._advancing: asyncio.Lock | None = None
        #: Called when time has jumped, or runs otherwise.
        self.on_change: Callable[[], object] = _nothing
        #: What has fired since the advance under way began.
        self._fired: list[FiredTimer] | None = None

    @property
    def rate(self) -> float:
        """Emulated milliseconds that pass in a real one."""
        return self._rate

    @property
    def mode(self) -> str:
        """`frozen`, `real`, `auto` or `scaled:N`."""
        return _mode_of(self._rate, auto=self._auto)

    @property
    def initial_mode(self) -> str:
        """The mode that it was made in."""
        return _mode_of(self._initial_rate, auto=self._initially_auto)

    @property
    def stands_still(self) -> bool:
        """Whether nothing more happens before somebody moves time: it is frozen, and nothing is executed."""
        return self._rate == 0 and not self._activities.any()

    def now_ms(self) -> int:
        """The emulated time, ms since the epoch."""
        if self._rate == 0:
            return self._base_ms
        now_ms = self._base_ms + int((real_seconds() - self._real_base_s) * 1000 * self._rate)
        return now_ms if now_ms < LATEST_MS else LATEST_MS

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

    def pending(self, limit: int | None = None) -> list[Timer]:
        """The armed timers, earliest first; the first `limit` of them."""
        return sorted(self._timers) if limit is None else heapq.nsmallest(limit, self._timers)

    def pending_count(self) -> int:
        """How many timers are armed."""
        return len(self._timers)

    def next_timer(self) -> Timer | None:
        """The earliest armed timer."""
        return self._timers.first()

    async def sleep(self, delay_ms: int, kind: str = "sleep", subject: str | None = None) -> None:
        """Wait for `delay_ms` of emulated time; `kind` names the wait among the timers, `subject` the id of
        the job or worker that it is about.
        """
        future = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay_ms, kind, _wake_sleeper, (future, subject))
        activity = current_activity.get()
        if activity is not None:
            activity.pause()
        try:
            await future
        finally:
            self.cancel(timer)
            if activity is not None:
                activity.resume()

    # Moving time

    def set_mode(self, mode: str) -> None:
        """Have time run as `mode` says: `real`, `frozen`, `auto` or `scaled:N`.

        :raises ClockError: it is none of these.
        """
        rate, auto = parse_mode(mode)
        self._set_rate(rate, auto=auto)

    def freeze(self) -> None:
        """Stop time; only `advance` moves it from here."""
        self._set_rate(0.0)

    def resume(self) -> None:
        """Let time run again, as it did when it was made (as real time if it was made frozen)."""
        self._set_rate(self._initial_rate or 1.0, auto=self._initially_auto)

    def go_on_from(self, now_ms: int) -> None:
        """Have it be this time: where the clock of an earlier process stood, or has got to since.

        :raises ClockError: it is beyond the year 9999, or before 1970.
        """
        if not 0 <= now_ms <= LATEST_MS:
            raise ClockError(f"the clock's time is {now_ms}: it must be from 0 to {LATEST_MS} (9999)")
        self._base_ms = now_ms
        self._real_base_s = real_seconds()

    def catch_up(self) -> None:
        """Fire what is due by now, in order, without waiting for the loop."""
        self._fire_due()
        self._arm()

    def restore(self) -> None:
        """Let time run as it did when it was made; the time itself is kept."""
        self._set_rate(self._initial_rate, auto=self._initially_auto)

    async def advance(self, by_ms: int) -> list[FiredTimer]:
        """Move time forward by `by_ms`, firing due timers in order.

        After each instant at which timers fire, the work they cause settles before time moves on:
        a handler that has just started gets a moment of real time to finish, a webhook call to be
        answered. Returns what fired.

        :raises ClockError: `by_ms` is negative.
        """
        if by_ms < 0:
            raise ClockError(f"cannot advance by {by_ms} ms: time only moves forward")
        if by_ms > LATEST_MS - self.now_ms():
            raise ClockError(f"cannot advance by {by_ms} ms: time ends with the year 9999")
        async with self._moving() as fired:
            target_ms = self.now_ms() + by_ms
            while (timer := self.next_timer()) is not None and timer.when_ms <= target_ms:
                await self._fire_at(timer.when_ms)
            self._jump(target_ms)
        return fired

    async def advance_to_next(self) -> list[FiredTimer]:
        """Move time to the next timer; returns what fired there, nothing when no timer is armed."""
        async with self._moving() as fired:
            if (timer := self.next_timer()) is not None:
                await self._fire_at(timer.when_ms)
        return fired

    async def advance_until(
        self, reached: Callable[[], bool], what: str, *, max_ms: int = UNTIL_MAX_MS
    ) -> list[FiredTimer]:
        """Move time from timer to timer until `reached()`; returns what fired.

        Work that takes real time is given some before time moves on. `what` says what is waited for.

        :raises ClockError: it is not reached within `max_ms`, or nothing more is due.
        """
        async with self._moving() as fired:
            limit_ms = self.now_ms() + max_ms
            while not reached():
                if await self._work_ended():
                    continue
                timer = self.next_timer()
                if timer is None:
                    raise ClockError(f"{what}: nothing more is due that could bring it about")
                if timer.when_ms > limit_ms:
                    raise ClockError(f"{what}: not within {max_ms} ms; next is {timer.kind!r}")
                await self._fire_at(timer.when_ms)
        return fired

    @asynccontextmanager
    async def _moving(self) -> AsyncIterator[list[FiredTimer]]:
        """While the body moves time, nobody else does; gives the list to which fired timers are added."""
        if self._advancing is None:
            self._advancing = asyncio.Lock()
        async with self._advancing:
            await self.settle()
            fired = self._fired = []
            try:
                yield fired
            finally:
                self._fired = None
                self._arm()

    async def _fire_at(self, when_ms: int) -> None:
        self._jump(when_ms)
        self._fire_due()
        await self.settle()

    async def _work_ended(self) -> bool:
        """Give work that is under way real time to end; False when there is none, or it takes too long."""
        if not self._activities.any():
            return False
        deadline_s = real_seconds() + _WORK_PATIENCE_S
        while self._activities.any():
            patience_s = deadline_s - real_seconds()
            if patience_s <= 0:
                return False
            await asyncio.wait({self._activities.nudge_comes()}, timeout=patience_s)
        await self.settle()
        return True

    # Skipping the time in which nothing happens

    def waiting(self) -> Waiting:
        """A client waits while the `with` block runs: an `auto` clock does not let it wait in vain, and one
        that is frozen not for long.
        """
        return Waiting(self._wait_begins, self._waits.end)

    def _wait_begins(self, waiting: Waiting) -> None:
        self._waits.begin(waiting)
        if self._auto:
            self._skip()
            self.nudge()

    def _frozen_at(self) -> int | None:
        return self._base_ms if self._rate == 0 else None

    def tells_execution(self, is_executing: Callable[[], bool]) -> None:
        """Ask `is_executing` too whether anything is being executed; whoever is asked calls `nudge`."""
        self._activities.ask_too(is_executing)

    def forget_execution(self, is_executing: Callable[[], bool]) -> None:
        """Ask it no more."""
        self._activities.ask_no_more(is_executing)

    def _skip(self) -> None:
        if self._auto and self._waits and self._skipping is None:
            self._skipping = asyncio.get_running_loop().create_task(self._skip_idle_time())
            self._skipping.add_done_callback(self._on_skipped)

    def _on_skipped(self, _: asyncio.Task[None]) -> None:
        self._skipping = None

    async def _skip_idle_time(self) -> None:
        while True:
            await self.settle()
            if not (self._auto and self._waits):
                return
            timer = self.next_timer()
            if self._activities.any() or timer is None or self._fired is not None:
                await self._activities.nudge_comes()
                continue
            self._jump(timer.when_ms)
            self._fire_due()
            self._arm()

    async def settle(self) -> None:
        """Return once everything that can happen without time moving has happened."""
        while True:
            for _ in range(_SETTLE_ROUNDS):
                await next_round()
            patience_s = self._activities.hold_for_s()
            if patience_s == 0:
                return
            await next_round(min(patience_s, 0.001))

    def activity(self, patience_s: float) -> Activity:
        """Holds `advance` back while its `with` block runs, for at most `patience_s` real seconds."""
        return Activity(self._activities, patience_s)

    def _set_rate(self, rate: float, *, auto: bool = False) -> None:
        self._base_ms = self.now_ms()
        self._real_base_s = real_seconds()
        self._rate = rate
        self._auto = auto
        self._arm()
        self._skip()
        self._waits.watch()
        self.nudge()
        self.on_change()

    def _jump(self, to_ms: int) -> None:
        self._base_ms = max(to_ms, self.now_ms())
        self._real_base_s = real_seconds()
        self.on_change()

    def _fire_due(self) -> None:
        now_ms = self.now_ms()
        while (timer := self.next_timer()) is not None and timer.when_ms <= now_ms:
            self._timers.remove_first(timer)
            callback, argument = timer.callback, timer.argument
            timer.disarm()
            if self._fired is not None:
                self._fired.append(FiredTimer(timer.when_ms, timer.kind, subject_of(argument)))
            assert callback is not None
            try:
                callback(argument)
            except Exception:
                # Those that are due after it are somebody else's.
                log.exception("the timer %r failed: this is a bug of the emulator", timer.kind)

    def _arm(self) -> None:
        """Have the loop call back at the earliest deadline; a frozen clock reaches none but those due now."""
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        self._armed_ms = math.inf
        self.nudge()
        timer = self.next_timer()
        if timer is None:
            return
        wait_ms = max(0, timer.when_ms - self.now_ms())
        if wait_ms and self._rate == 0:
            return
        # One that is years away is looked at again.
        delay_s = min(wait_ms / 1000 / self._rate, _LOOKED_AT_AGAIN_S) if wait_ms else 0.0
        self._armed_ms = timer.when_ms
        self._wakeup = asyncio.get_running_loop().call_later(delay_s, self._on_wakeup)

    def _on_wakeup(self) -> None:
        self._wakeup = None
        try:
            self._fire_due()
        finally:
            self._arm()
            self.nudge()

    def close(self) -> None:
        """Disarm everything."""
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        if self._skipping is not None:
            self._skipping.cancel()
        self._waits.close()
        self._timers.clear()
        self._armed_ms = math.inf


def _mode_of(rate: float, *, auto: bool) -> str:
    if auto:
        return "auto"
    if rate == 0:
        return "frozen"
    return "real" if rate == 1 else f"scaled:{rate:g}"


def _nothing() -> None:
    """Nobody follows the clock."""


class VirtualClock(Clock):
    """A clock that stands still until it is advanced: a day's ttl is tested in no time at all.

    `start_ms` is the time it starts at, ms since the epoch; the present when not given.
    """

    def __init__(self, start_ms: int | None = None) -> None:
        super().__init__(rate=0.0, start_ms=start_ms)


def clock_of(mode: str) -> Clock:
    """A clock that runs as `mode` says.

    :raises ClockError: see `parse_mode`.
    """
    rate, auto = parse_mode(mode)
    return Clock(rate=rate, auto=auto)


def subject_of(argument: object) -> str | None:
    """The id of what a timer is about: of a job, or else of a worker."""
    if isinstance(argument, tuple):
        *_, argument = argument
    found = argument if isinstance(argument, str) else getattr(argument, "id", None)
    return found if isinstance(found, str) else None


def _wake_sleeper(sleeper: tuple[asyncio.Future[None], str | None]) -> None:
    wake(sleeper[0])
