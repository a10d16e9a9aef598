"""Long work on the loop in short pieces, between which everybody else has a turn."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, TypeVar

from emulator.clock.real_time import next_round, real_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

T = TypeVar("T")

#: How long a piece is.
_PIECE_S = 0.005


async def in_slices(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, one by one; whoever else is served has a turn every few real ms."""
    until_s = real_seconds() + _PIECE_S
    for item in items:
        yield item
        if real_seconds() >= until_s:
            # The collector counts what comes less what goes: where each of a million jobs leaves as much as
            # it takes away, it would look at nothing for long, and then at all of it at once.
            gc.collect(1)
            await next_round()
            until_s = real_seconds() + _PIECE_S
