"""The fault rules in force, and the presets: rules that belong together. What each rule does is done where it
happens (`fault_effects.py`, the HTTP door, the webhooks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from emulator.core.bounds import FAULTS_MAX
from emulator.errors import ConfigError
from emulator.scenario.fault_rule import FaultRule, Point

#: More than any ttl.
_FOR_EVER_MS = 30 * 86_400_000

#: Rules that belong together.
PRESETS: dict[str, tuple[FaultRule, ...]] = {
    "no-capacity": (FaultRule(id="no-capacity", effect="throttled_ms", value=_FOR_EVER_MS),),
    "cold-start-storm": (FaultRule(id="cold-start-storm", effect="slow_start_ms", value=30_000),),
    "flaky-webhooks": (
        FaultRule(id="flaky-webhooks", effect="webhook", value="refuse", probability=0.5, seed=1),
    ),
    "api-outage": (FaultRule(id="api-outage", effect="status", value=503),),
}


class Faults:
    """The rules in force. Of those that match, the first that fires counts."""

    def __init__(self) -> None:
        self._at: dict[Point, list[FaultRule]] = {point: [] for point in Point}
        self._made = 0
        #: Whether there is one at all: every job asks several times.
        self.in_force = False

    def __iter__(self) -> Iterator[FaultRule]:
        return (rule for rules in self._at.values() for rule in rules)

    def add(self, rule: FaultRule) -> FaultRule:
        """Put a rule in force; one with the same id is replaced.

        :raises ConfigError: there are too many.
        """
        if sum(map(len, self._at.values())) >= FAULTS_MAX:
            raise ConfigError(f"there are {FAULTS_MAX} faults already: lift some, or reset")
        self._made += 1
        rule.id = rule.id or f"fault-{self._made}"
        self.remove(rule.id)
        self._at[rule.point].append(rule)
        self.in_force = True
        return rule

    def restore(self, rule: FaultRule) -> None:
        """Put a rule in force again that an earlier process had, with its id."""
        self.add(rule)
        _, _, number = rule.id.partition("fault-")
        if number.isascii() and number.isdigit():
            # No rule that comes later is to get its id.
            self._made = max(self._made, int(number[:9]))

    def add_preset(self, name: str, endpoint_id: str | None = None) -> list[FaultRule]:
        """Put the rules of a preset in force, for one endpoint or for all.

        :raises ConfigError: there is no such preset.
        """
        if name not in PRESETS:
            raise ConfigError(f"there is no preset {name!r}: there are {', '.join(PRESETS)}")
        suffix = "" if endpoint_id is None else f"@{endpoint_id}"
        return [
            self.add(replace(rule, id=rule.id + suffix, endpoint_id=endpoint_id)) for rule in PRESETS[name]
        ]

    def remove(self, rule_id: str) -> bool:
        """Lift a rule; False when there is none with this id."""
        for rules in self._at.values():
            for rule in rules:
                if rule.id == rule_id:
                    rules.remove(rule)
                    self.in_force = any(self._at.values())
                    return True
        return False

    def clear(self, endpoint_id: str | None = None) -> int:
        """Lift all rules, or those for one endpoint alone; returns how many."""
        lifted = [rule for rule in self if endpoint_id in (None, rule.endpoint_id)]
        for rule in lifted:
            self._at[rule.point].remove(rule)
        self.in_force = any(self._at.values())
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
