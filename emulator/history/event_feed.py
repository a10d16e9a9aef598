"""All that happens, numbered, for those who follow it: pages, editors, scripts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol

from emulator.clock.wakeup import Wakeup
from emulator.history.recent import Recent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.clock.clock import Clock

#: What a follower can have missed and still get.
EVENTS_KEPT = 5_000
#: Each event is written for each follower.
FOLLOWERS_MAX = 100
_BYTES_KEPT = 8 * 1024 * 1024
#: Real seconds after which a follower hears that there is nothing new.
_SILENCE_S = 15.0


class FeedEvent(Protocol):
    """One thing that happened: most are entries of the journal."""

    #: Given by the feed.
    event_number: int

    @property
    def size(self) -> int:
        """About how many bytes of memory it holds on to."""

    @property
    def kind(self) -> str:
        """What it is about: `job`, `output`, `log`, `worker`, `webhook`, `fault`, `notice`, `clock`, …"""

    def news(self) -> dict[str, Any]:
        """What is told of it, as JSON; made when somebody asks."""


@dataclass(slots=True)
class _Told:
    """What the journal has no entry for."""

    kind: str
    news: Callable[[], dict[str, Any]]
    size: int
    event_number: int = 0


@dataclass(slots=True, frozen=True)
class News:
    """What a follower is handed at one time; `missed` says that what came before it is no longer kept."""

    events: list[FeedEvent]
    missed: bool = False


class EventFeed:
    """The newest events. A follower that is too slow misses some, and is told so: nothing waits for it."""

    def __init__(self, clock: Clock) -> None:
        #: Of this emulator alone: numbers of another one mean nothing here.
        self.run = secrets.token_hex(4)
        self._clock = clock
        self._recent = Recent[FeedEvent](EVENTS_KEPT, _BYTES_KEPT)
        self._last_number = 0
        self._changed = Wakeup()
        self._released = False
        #: How many are being written to now.
        self.followers = 0

    @property
    def last_number(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._last_number

    def add(self, kind: str, tell: Callable[[], dict[str, Any]], size: int = 200) -> None:
        """Something has happened; `tell` holds on to about `size` bytes."""
        self.keep(_Told(kind, tell, size))

    def keep(self, event: FeedEvent) -> None:
        """Something has happened."""
        self._last_number += 1
        event.event_number = self._last_number
        self._recent.add(event)
        if self._changed.waiters:
            self._changed.notify()

    def since(self, number: int) -> News:
        """The events after the one with this number."""
        newer = takewhile(lambda event: event.event_number > number, reversed(self._recent))
        events = list(newer)[::-1]
        oldest = events[0].event_number if events else self._last_number + 1
        return News(events, missed=oldest > number + 1)

    def release(self) -> None:
        """End what is being followed."""
        self._released = True
        self._changed.notify()

    async def follow(self, after: int) -> AsyncIterator[News]:
        """The events after number `after`, those there are and those to come; an empty list now and then,
        as a sign of life.
        """
        while not self._released:
            news = self.since(after)
            if not news.events and not news.missed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SILENCE_S):
                        await self._changed.wait(self._clock, None, "events")
                news = self.since(after)
            after = news.events[-1].event_number if news.events else self._last_number
            yield news
