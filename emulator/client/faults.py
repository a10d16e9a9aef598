"""Ordering failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emulator.scenario.matching import as_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.client.connection import Connection


class FaultsClient:
    """The rules in force: of one endpoint, or (made without one) of all (docs/faults.md)."""

    def __init__(self, connection: Connection, endpoint_id: str | None = None) -> None:
        self._connection = connection
        self._endpoint_id = endpoint_id

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for rule in self._connection.control("GET", "/faults")["faults"]:
            if self._endpoint_id in (None, rule["match"].get("endpoint")):
                yield rule

    def add(
        self,
        *,
        then: dict[str, Any],
        operation: str | None = None,
        input: object = None,
        id: str | None = None,
        skip: int = 0,
        times: int | None = None,
        probability: float = 1.0,
        seed: int = 0,
    ) -> str:
        """Order a fault, e.g. `add(then={"status": 503}, operation="run", times=2)`; returns its id.

        :raises Refused: it is not a rule; says what is wrong.
        """
        match = {"endpoint": self._endpoint_id, "operation": operation, "input": as_json(input)}
        rule = {
            "match": {key: value for key, value in match.items() if value is not None},
            "then": then,
            "skip": skip,
            "times": times,
            "probability": probability,
            "seed": seed,
            **({} if id is None else {"id": id}),
        }
        return self.add_rule(rule)

    def add_rule(self, rule: dict[str, Any]) -> str:
        """Order a fault in its JSON form; returns its id.

        :raises Refused: it is not a rule; says what is wrong.
        """
        if self._endpoint_id is not None:
            rule = {**rule, "match": {**(rule.get("match") or {}), "endpoint": self._endpoint_id}}
        return str(self._connection.control("POST", "/faults", rule)["id"])

    def preset(self, name: str) -> list[str]:
        """Order all faults of a preset; returns their ids.

        :raises Refused: there is no such preset.
        """
        rules = self._connection.control("POST", f"/faults/presets/{name}", endpoint=self._endpoint_id)
        return [rule["id"] for rule in rules["faults"]]

    def remove(self, rule_id: str) -> None:
        """Lift a rule.

        :raises Refused: there is none with this id.
        """
        self._connection.control("DELETE", f"/faults/{rule_id}")

    def clear(self) -> None:
        """Lift all rules."""
        self._connection.control("DELETE", "/faults", endpoint=self._endpoint_id)
