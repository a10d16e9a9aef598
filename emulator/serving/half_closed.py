"""Clients that have sent their request and closed their sending side (`nc -N`): they want their answer.

One that has gone altogether looks the same at first. It shows when something is written to it: so an interim
answer, which every HTTP/1.1 client passes over, is sent to whoever waits for longer than a moment.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Real seconds after which a client is asked first, and in which it is asked again.
_ASK_AFTER_S = 0.02
_ASK_AGAIN_S = 5.0
#: The first answers to come are those of this machine.
_LOOK_AFTER_S = (0.005, 0.1, 1.0)
_INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"


def can_be_told() -> bool:
    """Whether it can be found out here who has gone."""
    return hasattr(select, "poll")


class HalfClosed:
    """A connection whose client has sent all it will; `cut` is called when it turns out to have gone."""

    __slots__ = ("_cut", "_file", "_loop", "_timer", "_write")

    def __init__(
        self, connection: socket.socket, write: Callable[[bytes], object], cut: Callable[[], object]
    ) -> None:
        self._file = connection.fileno()
        self._write = write
        self._cut = cut
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_ASK_AFTER_S, self._ask)

    def end(self) -> None:
        """It is being answered, or is gone."""
        self._timer.cancel()

    def _ask(self) -> None:
        self._write(_INTERIM)
        self._look_after(_LOOK_AFTER_S)

    def _look_after(self, delays_s: tuple[float, ...]) -> None:
        if delays_s:
            self._timer = self._loop.call_later(delays_s[0], self._look, delays_s[1:])
        else:
            self._timer = self._loop.call_later(_ASK_AGAIN_S, self._ask)

    def _look(self, delays_s: tuple[float, ...]) -> None:
        poll = select.poll()
        poll.register(self._file, 0)
        if poll.poll(0):
            self._cut()
        else:
            self._look_after(delays_s)
