"""Answers that are given before the request has come whole, such as a 400 for a body that is too large.

A socket that is closed while something on it has not been read is reset, and the reset may overtake the
answer: clients that ask for the connection to be closed (Python's urllib, Node's `agent: false`) then see
that alone. So our side is closed first, and what still comes is read and dropped, until the client has had
its answer and closes too; for so long and so much at most.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Real seconds, as a connection is real: without anything more, and in all.
_SILENT_S = 5.0
_IN_ALL_S = 30.0
#: More than any body that is taken.
_BYTES = 256 * 1024 * 1024


class ReadingOn:
    """The end of one connection; `cut` is called when the client does not close it in time."""

    __slots__ = ("_bytes", "_cut", "_loop", "_silent", "_too_long")

    def __init__(self, cut: Callable[[], object]) -> None:
        self._cut = cut
        self._bytes = 0
        self._loop = asyncio.get_running_loop()
        self._too_long = self._loop.call_later(_IN_ALL_S, cut)
        self._silent = self._loop.call_later(_SILENT_S, cut)

    def drop(self, data: bytes) -> None:
        """More has come that nobody wants."""
        self._silent.cancel()
        self._bytes += len(data)
        if self._bytes > _BYTES:
            self._cut()
        else:
            self._silent = self._loop.call_later(_SILENT_S, self._cut)

    def end(self) -> None:
        """The connection is gone."""
        self._silent.cancel()
        self._too_long.cancel()
