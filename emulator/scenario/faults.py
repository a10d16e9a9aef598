"""Failures to order: which, where, how often. What each does is done where it happens (`fault_effects.py`,
the pool, the HTTP door, the webhooks).
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from emulator.errors import ConfigError
from emulator.scenario.matching import as_json, checked, is_deep, matches


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


@dataclass(slots=True, frozen=True)
class _Effect:
    point: Point
    check: Callable[[Any], bool]
    rule: str
    #: Keys that may stand beside it in `then`.
    more: tuple[str, ...] = ()


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_ms(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_true(value: object) -> bool:
    return value is True


def _is_status(value: object) -> bool:
    return isinstance(value, int) and 200 <= value <= 599


_MS = "must be a number of ms"
_TRUE = "must be true"

#: What a rule's `then` may say: exactly one of these.
EFFECTS: dict[str, _Effect] = {
    "status": _Effect(Point.CALL, _is_status, "must be a status code from 200 to 599", ("headers", "body")),
    "latency_ms": _Effect(Point.CALL, _is_ms, _MS),
    "connection": _Effect(Point.CALL, {"reset", "truncate"}.__contains__, "must be reset or truncate"),
    "stall_ms": _Effect(Point.QUEUE, _is_ms, _MS),
    "fail": _Effect(Point.DELIVERY, _is_text, "must be the job's error"),
    "duplicate": _Effect(Point.DELIVERY, _is_true, _TRUE),
    "crash": _Effect(Point.DELIVERY, {"before", "mid"}.__contains__, "must be before or mid", ("after_ms",)),
    "hang": _Effect(Point.DELIVERY, _is_true, _TRUE),
    "ignore_cancel": _Effect(Point.DELIVERY, _is_true, _TRUE),
    "lose_result": _Effect(Point.DELIVERY, _is_true, _TRUE),
    "stop_heartbeat": _Effect(Point.DELIVERY, _is_true, _TRUE),
    "slow_start_ms": _Effect(Point.START, _is_ms, _MS),
    "throttled_ms": _Effect(Point.START, _is_ms, _MS),
    "webhook": _Effect(Point.WEBHOOK, {"refuse", "duplicate"}.__contains__, "must be refuse or duplicate"),
    "webhook_delay_ms": _Effect(Point.WEBHOOK, _is_ms, _MS),
}
#: What `match.operation` may name: the operations (wire.md 2 to 4), and the workers' calls (wire.md 7).
CALLS = (
    "run", "runsync", "status", "status-sync", "stream", "cancel", "retry", "purge-queue", "openai", "health",
    "requests",
    "job-take", "job-take-batch", "job-stop", "job-stream", "job-done", "ping",
)  # fmt: skip
#: More than any ttl.
_FOR_EVER_MS = 30 * 86_400_000

#: Rules that belong together.
PRESETS: dict[str, tuple[dict[str, Any], ...]] = {
    "no-capacity": ({"id": "no-capacity", "then": {"throttled_ms": _FOR_EVER_MS}},),
    "cold-start-storm": ({"id": "cold-start-storm", "then": {"slow_start_ms": 30_000}},),
    "flaky-webhooks": (
        {"id": "flaky-webhooks", "probability": 0.5, "seed": 1, "then": {"webhook": "refuse"}},
    ),
    "api-outage": ({"id": "api-outage", "then": {"status": 503}},),
}

_RULE_KEYS = ("id", "match", "skip", "times", "probability", "seed", "then")
_MATCH_KEYS = ("endpoint", "operation", "input")


@dataclass(slots=True, kw_only=True)
class FaultRule:
    """One rule, and how often it has matched and fired."""

    id: str
    #: The effect's name, a key of `EFFECTS`, and its value.
    effect: str
    value: Any
    #: What stands beside the effect in `then`.
    more: Mapping[str, Any]
    endpoint_id: str | None
    operation: str | None
    #: What the job's input must be like; None for any.
    input: object
    skip: int
    #: How often it fires at most; None for ever.
    times: int | None
    probability: float
    seed: int
    matched: int = 0
    fired: int = 0
    _draws: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._draws = random.Random(self.seed)

    @classmethod
    def parse(cls, fields: Mapping[str, Any], number: int) -> FaultRule:
        """The rule for its JSON form (docs/faults.md).

        :raises ConfigError: it is not one; the message says where and what to write.
        """
        _check_keys(fields, _RULE_KEYS, "")
        match, then = fields.get("match") or {}, fields.get("then")
        if not isinstance(match, Mapping):
            raise ConfigError('match: must be an object like {"operation": "run"}')
        _check_keys(match, _MATCH_KEYS, "match.")
        if not isinstance(then, Mapping):
            raise ConfigError('then: must be an object like {"status": 503}')
        names = [name for name in then if name in EFFECTS]
        if len(names) != 1:
            unknown = next((name for name in then if name not in EFFECTS), None)
            hint = "" if unknown is None else _did_you_mean(unknown, EFFECTS)
            raise ConfigError(f"then: must have exactly one of {', '.join(EFFECTS)}{hint}")
        effect = EFFECTS[names[0]]
        _check_keys(then, (names[0], *effect.more), "then.")
        _check(effect.check(then[names[0]]), f"then.{names[0]}", effect.rule)
        if "after_ms" in then:
            _check(_is_ms(then["after_ms"]), "then.after_ms", _MS)
        _check(
            "operation" not in match or effect.point is Point.CALL,
            "match.operation",
            f"a call has one, which {names[0]} is not about: leave it out",
        )
        _check_match(match)
        _check(
            _are_headers(then.get("headers", {})),
            "then.headers",
            'must be an object like {"Retry-After": "1"}',
        )
        _check(not is_deep(then), "then", "is nested too deeply")
        probability, times = fields.get("probability", 1.0), fields.get("times")
        _check(_is_part(probability), "probability", "must be a number from 0 to 1")
        _check(times is None or _is_ms(times), "times", "must be a whole number")
        _check(_is_ms(fields.get("skip", 0)), "skip", "must be a whole number")
        _check(isinstance(fields.get("seed", 0), int), "seed", "must be a whole number")
        return cls(
            id=str(fields.get("id") or f"fault-{number}"),
            effect=names[0],
            value=then[names[0]],
            more={name: then[name] for name in effect.more if name in then},
            endpoint_id=match.get("endpoint"),
            operation=match.get("operation"),
            input=checked(match.get("input"), "match.input"),
            skip=fields.get("skip", 0),
            times=times,
            probability=probability,
            seed=fields.get("seed", 0),
        )

    @property
    def point(self) -> Point:
        """Where it is asked for."""
        return EFFECTS[self.effect].point

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


class Faults:
    """The rules in force. Of those that match, the first that fires counts."""

    def __init__(self) -> None:
        self._at: dict[Point, list[FaultRule]] = {point: [] for point in Point}
        self._made = 0

    def __iter__(self) -> Iterator[FaultRule]:
        return (rule for rules in self._at.values() for rule in rules)

    def add(self, fields: Mapping[str, Any]) -> FaultRule:
        """Put a rule in force, in its JSON form; one with the same id is replaced.

        :raises ConfigError: it is not a rule.
        """
        rule = FaultRule.parse(fields, self._made + 1)
        self._made += 1
        self.remove(rule.id)
        self._at[rule.point].append(rule)
        return rule

    def add_preset(self, name: str, endpoint_id: str | None = None) -> list[FaultRule]:
        """Put the rules of a preset in force, for one endpoint or for all.

        :raises ConfigError: there is no such preset.
        """
        if name not in PRESETS:
            raise ConfigError(f"there is no preset {name!r}: there are {', '.join(PRESETS)}")
        suffix, match = ("", {}) if endpoint_id is None else (f"@{endpoint_id}", {"endpoint": endpoint_id})
        return [self.add({**rule, "id": rule["id"] + suffix, "match": match}) for rule in PRESETS[name]]

    def remove(self, rule_id: str) -> bool:
        """Lift a rule; False when there is none with this id."""
        for rules in self._at.values():
            for rule in rules:
                if rule.id == rule_id:
                    rules.remove(rule)
                    return True
        return False

    def clear(self, endpoint_id: str | None = None) -> int:
        """Lift all rules, or those for one endpoint alone; returns how many."""
        lifted = [rule for rule in self if endpoint_id in (None, rule.endpoint_id)]
        for rule in lifted:
            self._at[rule.point].remove(rule)
        return len(lifted)

    def strike(
        self,
        point: Point,
        endpoint_id: str,
        read_input: Callable[[], object],
        operation: str | None = None,
        *,
        only_named: bool = False,
    ) -> FaultRule | None:
        """The rule that fires here and now, if any does; with `only_named` none that is for any operation."""
        for rule in self._at[point]:
            if only_named and rule.operation is None:
                continue
            if rule.strikes(endpoint_id, operation, read_input):
                return rule
        return None

    def any_at(self, point: Point) -> bool:
        """Whether a rule may fire here at all."""
        return bool(self._at[point])


def _check_match(match: Mapping[str, Any]) -> None:
    endpoint_id, operation = match.get("endpoint"), match.get("operation")
    _check(endpoint_id is None or _is_text(endpoint_id), "match.endpoint", "must be an endpoint's id")
    if operation is not None and operation not in CALLS:
        raise ConfigError(
            f"match.operation: there is no {operation!r}{_did_you_mean(str(operation), CALLS)}"
            f" (there are {', '.join(CALLS)})"
        )


def _are_headers(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(text, str) and text.isascii() and text.isprintable()
        for name, content in value.items()
        for text in (name, str(content))
    )


def _is_part(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _check(right: bool, place: str, rule: str) -> None:
    if not right:
        raise ConfigError(f"{place}: {rule}")


def _check_keys(fields: Mapping[str, Any], known: tuple[str, ...], prefix: str) -> None:
    for key in fields:
        if key not in known:
            raise ConfigError(f"{prefix}{key}: there is no such key{_did_you_mean(key, known)}")


def _did_you_mean(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f": did you mean {close[0]}?" if close else ""
