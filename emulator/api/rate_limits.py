"""Production's rate and concurrency limits, per endpoint and operation (wire.md 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from emulator.core.endpoint import Endpoint

WINDOW_MS = 10_000
#: Each running worker allows this part of the base limit more than none; the larger of both counts.
_PER_WORKER = 0.1


@dataclass(slots=True, frozen=True, eq=False)
class RateLimit:
    """What one operation, or several that share, may be asked."""

    name: str
    per_window: int
    concurrent: int | None


RUN = RateLimit("/run", 1000, 200)
RUNSYNC = RateLimit("/runsync", 2000, 400)
STATUS = RateLimit("/status", 2000, 400)
STREAM = RateLimit("/stream", 2000, 400)
CANCEL = RateLimit("/cancel", 100, 20)
PURGE_QUEUE = RateLimit("/purge-queue", 2, None)
REQUESTS = RateLimit("/requests", 10, 2)
OPENAI = RateLimit("/openai", 2000, 400)


class Meter:
    """The requests of one endpoint against one limit."""

    __slots__ = ("active", "count", "limit", "window_ends_ms")

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.active = 0
        self.count = 0
        self.window_ends_ms = 0

    def leave(self) -> None:
        """A request that was admitted has been answered."""
        self.active -= 1


class TooManyRequests(Exception):
    """A limit is reached; says for how long (whole seconds) and which."""

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class RateLimits:
    """Counts requests in windows of 10 s on the endpoint's clock; `scale` multiplies every limit."""

    def __init__(self, *, enabled: bool = True, scale: float = 1.0) -> None:
        self._enabled = enabled
        self._scale = scale
        #: An endpoint's go with it.
        self._meters: WeakKeyDictionary[Endpoint, dict[RateLimit, Meter]] = WeakKeyDictionary()

    def reset(self) -> None:
        """Start all windows anew; requests that are being answered are forgotten."""
        self._meters.clear()

    def admit(self, endpoint: Endpoint, limit: RateLimit) -> Meter:
        """Count a request; the caller calls `leave` on what it gets.

        :raises TooManyRequests: there are too many already (429).
        """
        meters = self._meters.get(endpoint)
        if meters is None:
            meters = self._meters[endpoint] = {}
        meter = meters.get(limit)
        if meter is None:
            meter = meters[limit] = Meter(limit)
        now_ms = endpoint.clock.now_ms()
        if now_ms >= meter.window_ends_ms:
            meter.window_ends_ms = now_ms + WINDOW_MS
            meter.count = 0
        if self._enabled:
            if meter.count + 1 > limit.per_window * self._scale:
                self._check_rate(meter, endpoint, now_ms)
            if limit.concurrent is not None and meter.active + 1 > limit.concurrent * self._scale:
                self._check_concurrency(meter, endpoint, limit.concurrent)
        meter.count += 1
        meter.active += 1
        return meter

    def _check_rate(self, meter: Meter, endpoint: Endpoint, now_ms: int) -> None:
        allowed = self._effective(meter.limit.per_window, endpoint)
        if meter.count >= allowed:
            retry_after_s = max(1, math.ceil((meter.window_ends_ms - now_ms) / 1000))
            raise TooManyRequests(
                f"rate limit exceeded: {allowed} {meter.limit.name} requests in {WINDOW_MS // 1000} s;"
                f" try again in {retry_after_s} s",
                retry_after_s,
            )

    def _check_concurrency(self, meter: Meter, endpoint: Endpoint, concurrent: int) -> None:
        allowed = self._effective(concurrent, endpoint)
        if meter.active >= allowed:
            raise TooManyRequests(
                f"rate limit exceeded: {allowed} {meter.limit.name} requests at once;"
                " wait for one to be answered",
                1,
            )

    def _effective(self, base: int, endpoint: Endpoint) -> int:
        allowed = max(base, endpoint.pool.running * base * _PER_WORKER)
        return max(1, math.floor(allowed * self._scale))
