"""One fault rule in force: what it matches, what goes wrong, how often it has."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from emulator.scenario.matching import as_json, matches


class Point(Enum):
    """Where rules are asked for."""

    CALL = "call"
    """A request to one of the endpoint's operations, before it is looked at."""
    QUEUE = "queue"
    """A job enters the queue."""
    DELIVERY = "delivery"
    """A worker is given a job."""
    START = "start"
    """A worker is to be started."""
    WEBHOOK = "webhook"
    """A webhook is about to be called."""


#: What can go wrong, and where each is asked for.
EFFECTS: dict[str, Point] = {
    "status": Point.CALL,
    "latency_ms": Point.CALL,
    "connection": Point.CALL,
    "stall_ms": Point.QUEUE,
    "fail": Point.DELIVERY,
    "duplicate": Point.DELIVERY,
    "crash": Point.DELIVERY,
    "hang": Point.DELIVERY,
    "ignore_cancel": Point.DELIVERY,
    "lose_result": Point.DELIVERY,
    "lose_output": Point.DELIVERY,
    "stop_heartbeat": Point.DELIVERY,
    "slow_start_ms": Point.START,
    "throttled_ms": Point.START,
    "webhook": Point.WEBHOOK,
    "webhook_delay_ms": Point.WEBHOOK,
}
#: What `match.operation` may name: the operations (wire.md 2 to 4), and the workers' calls (wire.md 7).
CALLS = (
    "run", "runsync", "status", "status-sync", "stream", "cancel", "retry", "purge-queue", "openai", "health",
    "metrics", "requests",
    "job-take", "job-take-batch", "job-stop", "job-stream", "job-done", "ping",
)  # fmt: skip


#: Of a rule that has matched before, how many draws are made again.
_DRAWS_REPEATED = 1_000_000


@dataclass(slots=True, kw_only=True)
class FaultRule:
    """One rule, and how often it has matched and fired."""

    #: Given when it is put in force, if it has none.
    id: str
    #: The effect's name, a key of `EFFECTS`, and its value.
    effect: str
    value: Any
    #: What stands beside the effect in `then`.
    more: Mapping[str, Any] = field(default_factory=dict)
    endpoint_id: str | None = None
    operation: str | None = None
    #: What the job's input must be like; None for any.
    input: object = None
    skip: int = 0
    #: How often it fires at most; None for ever.
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    matched: int = 0
    fired: int = 0
    _draws: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._draws = random.Random(self.seed)
        for _ in range(min(self.matched - self.skip, _DRAWS_REPEATED)):
            # It goes on where it was.
            self._draws.random()

    @property
    def point(self) -> Point:
        """Where it is asked for."""
        return EFFECTS[self.effect]

    def as_json(self) -> dict[str, Any]:
        """Its JSON form, with its counters."""
        match = {"endpoint": self.endpoint_id, "operation": self.operation, "input": as_json(self.input)}
        return {
            "id": self.id,
            "match": {key: value for key, value in match.items() if value is not None},
            "skip": self.skip,
            "times": self.times,
            "probability": self.probability,
            "seed": self.seed,
            "then": {self.effect: self.value, **self.more},
            "matched": self.matched,
            "fired": self.fired,
        }

    def strikes(self, endpoint_id: str, operation: str | None, read_input: Callable[[], object]) -> bool:
        """Whether it fires for this; counts that it matched, and that it fired."""
        if self.endpoint_id not in (None, endpoint_id):
            return False
        if self.times is not None and self.fired >= self.times:
            return False
        if self.operation not in (None, operation):
            return False
        if self.input is not None and not matches(self.input, read_input()):
            return False
        self.matched += 1
        if self.matched <= self.skip or self._draws.random() >= self.probability:
            return False
        self.fired += 1
        return True
