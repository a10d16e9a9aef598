"""Webhook receivers that the emulator itself hosts: what came, and what they are to answer."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.clock.wakeup import Wakeup
from emulator.errors import ConfigError
from emulator.history.recent import Recent

if TYPE_CHECKING:
    from emulator.clock.clock import Clock

#: The newest deliveries of each sink, and of all; more sinks than that are a mistake.
_DELIVERIES_KEPT = 1_000
_BYTES_KEPT = 32 * 1024 * 1024
_BYTES_KEPT_IN_ALL = 2 * _BYTES_KEPT
_SINKS_MAX = 10_000
#: What a delivery takes beside its body and what a header has of text.
_OVERHEAD = 500
_OVERHEAD_OF_HEADER = 100


@dataclass(slots=True, frozen=True)
class Received:
    """One call of a sink."""

    number: int
    #: On the emulator's clock, ms since the epoch.
    at_ms: int
    method: str
    headers: Mapping[str, str]
    body: bytes
    #: What the sink answered.
    status: int
    #: About how many bytes it holds.
    size: int

    @property
    def parsed(self) -> Any:
        """The body as a value when it is JSON, else as text."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return self.body.decode("utf-8", "replace")


@dataclass(slots=True, frozen=True)
class Answer:
    """What a sink answers, and after how many ms on the emulator's clock."""

    status: int = 200
    body: str = ""
    delay_ms: int = 0


class Sink:
    """One receiver. It gives its answers in order, then 200 for ever."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.deliveries = Recent[Received](_DELIVERIES_KEPT, _BYTES_KEPT)
        self.answers: deque[Answer] = deque()
        self.count = 0
        self._came = Wakeup()

    def receive(self, at_ms: int, method: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Take in a call; what is to be answered."""
        answer = self.answers.popleft() if self.answers else Answer()
        self.count += 1
        of_headers = sum(len(name) + len(value) + _OVERHEAD_OF_HEADER for name, value in headers.items())
        size = len(body) + of_headers + _OVERHEAD
        self.deliveries.add(Received(self.count, at_ms, method, headers, body, answer.status, size))
        self._came.notify()
        return answer

    async def wait(self, count: int, clock: Clock) -> None:
        """Wait until it has been called `count` times in all."""
        with clock.waiting():
            while self.count < count:
                await self._came.wait(clock, None, "wait for a webhook")


class Sinks:
    """The sinks by name; one is there as soon as it is named."""

    def __init__(self) -> None:
        self._sinks: dict[str, Sink] = {}
        #: Those that have been called, the one that was called last at the end.
        self._called: dict[str, Sink] = {}
        self._bytes = 0

    def receive(self, name: str, at_ms: int, method: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Have a sink take in a call; what is to be answered. What there is no more room for goes, from the
        sinks that have not been called for longest.
        """
        sink = self[name]
        self._called.pop(name, None)
        self._called[name] = sink
        self._bytes -= sink.deliveries.bytes
        answer = sink.receive(at_ms, method, headers, body)
        self._bytes += sink.deliveries.bytes
        while self._bytes > _BYTES_KEPT_IN_ALL and len(self._called) > 1:
            oldest = next(iter(self._called.values()))
            if len(oldest.deliveries) == 0:
                del self._called[oldest.name]
                continue
            self._bytes -= oldest.deliveries.bytes
            oldest.deliveries.drop_oldest()
            self._bytes += oldest.deliveries.bytes
        return answer

    def __getitem__(self, name: str) -> Sink:
        if name not in self._sinks:
            if len(self._sinks) >= _SINKS_MAX:
                raise ConfigError(f"there are {_SINKS_MAX} sinks already: delete some, or reset")
            self._sinks[name] = Sink(name)
        return self._sinks[name]

    def __contains__(self, name: str) -> bool:
        return name in self._sinks

    def __iter__(self) -> Iterator[Sink]:
        return iter(self._sinks.values())

    def remove(self, name: str) -> bool:
        """Forget a sink; False when there is none."""
        if (sink := self._called.pop(name, None)) is not None:
            self._bytes -= sink.deliveries.bytes
        return self._sinks.pop(name, None) is not None

    def clear(self) -> None:
        """Forget all."""
        self._sinks.clear()
        self._called.clear()
        self._bytes = 0
