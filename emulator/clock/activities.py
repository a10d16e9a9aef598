"""Work that is under way, as far as time has to know: it does not move on over work that is about to end."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

from emulator.clock.real_time import real_seconds

if TYPE_CHECKING:
    from collections.abc import Callable


class Activities:
    """What is being executed: work that says so itself, and work that somebody can be asked about."""

    def __init__(self) -> None:
        self._under_way: set[Activity] = set()
        #: Who can tell whether there is more of it.
        self._asked: list[Callable[[], bool]] = []
        self._nudged: asyncio.Future[None] | None = None

    def begin(self, activity: Activity) -> None:
        """Work begins."""
        self._under_way.add(activity)

    def end(self, activity: Activity) -> None:
        """Work has ended."""
        self._under_way.discard(activity)
        self.nudge()

    def ask_too(self, is_executing: Callable[[], bool]) -> None:
        """Ask `is_executing` too whether anything is being executed; whoever is asked calls `nudge`."""
        self._asked.append(is_executing)

    def ask_no_more(self, is_executing: Callable[[], bool]) -> None:
        """Ask it no more."""
        self._asked.remove(is_executing)

    def any(self) -> bool:
        """Whether anything is being executed."""
        return any(activity.goes_on for activity in self._under_way) or any(ask() for ask in self._asked)

    def hold_for_s(self) -> float:
        """Real seconds for which work that says so itself may still hold the clock."""
        return max((activity.held_for_s() for activity in self._under_way), default=0.0)

    def nudge(self) -> None:
        """Something has ended, or changed: perhaps nothing is being executed now."""
        if self._nudged is not None:
            wake(self._nudged)
            self._nudged = None

    def nudge_comes(self) -> asyncio.Future[None]:
        """Done at the next nudge."""
        if self._nudged is None:
            self._nudged = asyncio.get_running_loop().create_future()
        return self._nudged


class Activity:
    """Work whose end the clock waits for, within reason, before `advance` moves time any further."""

    __slots__ = ("_activities", "_patience_s", "_token", "_waiting_since")

    def __init__(self, activities: Activities, patience_s: float) -> None:
        self._activities = activities
        self._patience_s = patience_s
        #: Real seconds at which the work began to hold the clock; None while it does not.
        self._waiting_since: float | None = None

    def __enter__(self) -> None:
        self._waiting_since = real_seconds()
        self._activities.begin(self)
        self._token = current_activity.set(self)

    def __exit__(self, *_: object) -> None:
        self._activities.end(self)
        current_activity.reset(self._token)

    @property
    def goes_on(self) -> bool:
        """Whether it is at work, and does not wait for the clock itself."""
        return self._waiting_since is not None

    def held_for_s(self) -> float:
        """Real seconds for which it may still hold the clock; 0 when it no longer does."""
        if self._waiting_since is None:
            return 0.0
        return max(0.0, self._waiting_since + self._patience_s - real_seconds())

    def pause(self) -> None:
        """The work waits for the clock itself: it must not hold it."""
        self._waiting_since = None
        self._activities.nudge()

    def resume(self) -> None:
        """The work goes on after a pause."""
        self._waiting_since = real_seconds()


current_activity: ContextVar[Activity | None] = ContextVar("current_activity", default=None)


def wake(future: asyncio.Future[None]) -> None:
    """Let whoever awaits it go on, unless it was given up."""
    if not future.done():
        future.set_result(None)
