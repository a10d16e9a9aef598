"""Requests of which the rest does not come: they end in time, and hold nothing for ever.

The bounds are generous, as a client may have been stopped in a debugger, or its line be slow.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

#: Real seconds without a byte more, for the head of a request, and for all of it.
_SILENT_S = 60.0
_HEAD_S = 60.0
_IN_ALL_S = 3600.0
#: How often those that are under way are looked at.
_LOOK_EVERY_S = 5.0


class Sender(Protocol):
    """A connection on which a request is being sent."""

    #: Its head has not come whole.
    in_head: bool

    @property
    def waits_for_us(self) -> bool:
        """Whether it is not being read: what is missing is not the client's fault."""

    def give_up(self) -> None:
        """Tell the client that its request did not come in time, and close the connection."""


class HalfSent:
    """The connections of one server on which a request has begun and not ended."""

    def __init__(self) -> None:
        #: When each began, and when the last of it came.
        self._since: dict[Sender, tuple[float, float]] = {}
        self._looking: asyncio.TimerHandle | None = None

    def saw(self, sender: Sender) -> None:
        """A part of a request has come, and more is to follow."""
        now_s = asyncio.get_running_loop().time()
        began_s, _ = self._since.get(sender, (now_s, now_s))
        self._since[sender] = began_s, now_s
        if self._looking is None:
            self._look_later()

    def forget(self, sender: Sender) -> None:
        """It has come whole, or its connection is gone."""
        self._since.pop(sender, None)

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._looking = None
        now_s = asyncio.get_running_loop().time()
        for sender, (began_s, last_s) in list(self._since.items()):
            if sender.waits_for_us:
                self._since[sender] = began_s, now_s
            elif now_s - last_s > _SILENT_S or now_s - began_s > (_HEAD_S if sender.in_head else _IN_ALL_S):
                del self._since[sender]
                sender.give_up()
        if self._since:
            self._look_later()
