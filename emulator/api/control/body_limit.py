"""How large a body of the control API may be, and that its memory is given back."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Message, Receive

BODY_MAX_MIB = 32
TOO_LARGE = f"the body is larger than {BODY_MAX_MIB} MiB"
_BODY_MAX = BODY_MAX_MIB * 1024 * 1024
#: Exceptions of the parsers hold on to the body in circles, which are looked for after a body of this size.
_LARGE = 256 * 1024


class ControlBody:
    """The body of one call, as it comes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0

    @staticmethod
    def is_too_large(headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether more is announced than is taken."""
        announced = dict(headers).get(b"content-length", b"0")
        return len(announced) > 12 or (announced.isdigit() and int(announced) > _BODY_MAX)

    async def receive(self) -> Message:
        """The next message.

        :raises HTTPException: more has come than is taken.
        """
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > _BODY_MAX:
            raise HTTPException(413, TOO_LARGE)
        return message

    def forget(self) -> None:
        """The call is over: give back what a large body has taken."""
        if self._size > _LARGE:
            gc.collect(1)
