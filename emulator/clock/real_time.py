"""The only place that reads real time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic, time

#: Kept where libraries that stop time for a test (freezegun) do not look, as it stops for the test alone.
_FUNCTIONS = (monotonic, time)
del monotonic, time

#: Real time from an arbitrary start: to measure how long real work took, never to wait for anything. Hidden
#: likewise, and without a call of Python, as every job asks a dozen times.
real_seconds: Callable[[], float] = partial(_FUNCTIONS[0])


def wall_clock_ms() -> int:
    """What a clock on the wall shows, ms since the epoch."""
    return int(_FUNCTIONS[1]() * 1000)


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for a thread of ours, whose timers go on whatever time a test has stopped."""
    loop = asyncio.new_event_loop()
    loop.time = _FUNCTIONS[0]  # type: ignore[method-assign]
    return loop


def next_round(delay_s: float = 0.0) -> Awaitable[None]:
    """Give the loop a round (or a real moment) in which sockets, threads and other tasks get on."""
    return asyncio.sleep(delay_s)
