"""The only place that reads real time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import monotonic, time


def real_seconds() -> float:
    """Real time from an arbitrary start: to measure how long real work took, never to wait for anything."""
    return monotonic()


def wall_clock_ms() -> int:
    """What a clock on the wall shows, ms since the epoch."""
    return int(time() * 1000)


def next_round(delay_s: float = 0.0) -> Awaitable[None]:
    """Give the loop a round (or a real moment) in which sockets, threads and other tasks get on."""
    return asyncio.sleep(delay_s)
