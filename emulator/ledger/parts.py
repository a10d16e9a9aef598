"""What is kept beside the jobs: clocks, endpoints made at run time, faults and stubs, each as JSON."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from emulator.clock.real_time import wall_clock_ms
from emulator.core.config import EndpointConfig
from emulator.core.json_text import NotJSON, encode
from emulator.errors import ConfigError
from emulator.ledger.records import PartRecord
from emulator.scenario.fault_rule import EFFECTS, FaultRule
from emulator.scenario.matching import as_json, checked
from emulator.scenario.stubs import Stub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from emulator.clock.clock import Clock
    from emulator.core.endpoint import Endpoint
    from emulator.scenario.faults import Faults
    from emulator.scenario.scenario import Scenario
    from emulator.webhooks.deliveries import Webhooks

log = logging.getLogger("emulator.state")

CLOCK, ENDPOINT, FAULTS, STUBS, STOP = "clock", "endpoint", "faults", "stubs", "stop"


@dataclass(slots=True, frozen=True, kw_only=True)
class Served:
    """What of an emulator is kept, and how an endpoint is added to it."""

    clock: Clock
    endpoints: Mapping[str, Endpoint]
    scenarios: Mapping[Endpoint, Scenario]
    faults: Faults
    webhooks: Webhooks
    #: The endpoints that the command line or the file has: their settings come from there.
    given: Callable[[], frozenset[str]]
    #: Adds an endpoint that an earlier process had been given at run time, before anything runs.
    add_endpoint: Callable[[str, EndpointConfig, str | None], Awaitable[Endpoint]]


class Parts:
    """All parts of an emulator as they stand."""

    def __init__(self, served: Served) -> None:
        self._served = served
        #: How each clock ran when it last changed: it runs on from there by itself.
        self._clocks: dict[Clock, bytes] = {}
        self._told: set[str] = set()

    def changed(self, clock: Clock) -> None:
        """A clock has jumped, or runs otherwise."""
        self._clocks.pop(clock, None)

    def __call__(self) -> Iterator[PartRecord]:
        """Each part, as JSON text."""
        served = self._served
        yield PartRecord(CLOCK, "", self._clock(served.clock))
        if faults := [each for rule in served.faults if (each := self._fault(rule))]:
            yield PartRecord(FAULTS, "", _list_of(faults))
        for endpoint in served.endpoints.values():
            if endpoint.id not in served.given() and (settings := self._settings(endpoint)) is not None:
                yield PartRecord(ENDPOINT, endpoint.id, settings)
            if endpoint.clock is not served.clock:
                yield PartRecord(CLOCK, endpoint.id, self._clock(endpoint.clock))
            stubs = served.scenarios[endpoint].stubs
            if len(stubs) and (kept := [each for stub in stubs if (each := self._stub(stub))]):
                yield PartRecord(STUBS, endpoint.id, _list_of(kept))

    def _clock(self, clock: Clock) -> bytes:
        if (known := self._clocks.get(clock)) is None:
            known = self._clocks[clock] = encode(
                {
                    "mode": clock.mode,
                    "rate": clock.rate,
                    "made": clock.initial_mode,
                    "now_ms": clock.now_ms(),
                    "wall_ms": wall_clock_ms(),
                }
            )
        return known

    def _settings(self, endpoint: Endpoint) -> bytes | None:
        settings = asdict(endpoint.config)
        settings["workdir"] = None if settings["workdir"] is None else str(settings["workdir"])
        if not isinstance(settings["handler"], str | None):
            self._tell_once(
                f"endpoint {endpoint.id!r} is gone when the emulator ends: its handler is a function"
            )
            return None
        own_clock = endpoint.clock is not self._served.clock
        return encode({"settings": settings, "clock": endpoint.clock.initial_mode if own_clock else None})

    def _fault(self, rule: FaultRule) -> bytes:
        return self._encoded(f"fault {rule.id!r}", rule.as_json)

    def _stub(self, stub: Stub) -> bytes:
        return self._encoded(f"stub {stub.number}", lambda: stub_as_json(stub))

    def _encoded(self, what: str, as_fields: Callable[[], dict[str, Any]]) -> bytes:
        try:
            return encode(as_fields())
        except (ConfigError, NotJSON) as error:
            self._tell_once(f"{what} is gone when the emulator ends: {error}")
            return b""

    def _tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            log.warning("state: %s", sentence)


def _list_of(items: list[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def stub_as_json(stub: Stub) -> dict[str, Any]:
    """A stub, whole.

    :raises ConfigError: what it expects is a function.
    """
    return {
        "when": {} if stub.expected is None else {"input": as_json(stub.expected)},
        "output": json.loads(stub.output_json),
        "error": stub.error,
        "says": stub.says,
        "chunks": [json.loads(chunk) for chunk in stub.chunks],
        "progress": [json.loads(progress) for progress in stub.progress],
        "delay_ms": stub.delay_ms,
        "times": stub.times,
        "matched": stub.matched,
    }


def stub_of(fields: Mapping[str, Any]) -> Stub:
    """The stub for what `stub_as_json` says of it.

    :raises ConfigError: it is none.
    """
    return Stub(
        expected=checked(fields["when"].get("input"), "when.input"),
        output_json=encode(fields["output"]),
        error=fields["error"],
        says=fields["says"],
        chunks=[encode(chunk) for chunk in fields["chunks"]],
        progress=[encode(progress) for progress in fields["progress"]],
        delay_ms=fields["delay_ms"],
        times=fields["times"],
        matched=fields["matched"],
    )


def fault_of(fields: Mapping[str, Any]) -> FaultRule:
    """The rule for its JSON form, with its counters.

    :raises ConfigError: what it expects cannot be.
    """
    match, then = fields["match"], dict(fields["then"])
    effect = next(name for name in then if name in EFFECTS)
    return FaultRule(
        id=fields["id"],
        effect=effect,
        value=then.pop(effect),
        more=then,
        endpoint_id=match.get("endpoint"),
        operation=match.get("operation"),
        input=checked(match.get("input"), "match.input"),
        skip=fields["skip"],
        times=fields["times"],
        probability=fields["probability"],
        seed=fields["seed"],
        matched=fields["matched"],
        fired=fields["fired"],
    )


def set_clock(clock: Clock, fields: Mapping[str, Any]) -> None:
    """Have a clock go on: a frozen one where it was, one that ran where it has got to since.

    It runs as it did, unless it is made to run otherwise than it was made then.
    """
    passed_ms = max(0, wall_clock_ms() - fields["wall_ms"])
    clock.go_on_from(fields["now_ms"] + int(passed_ms * fields["rate"]))
    if clock.initial_mode == fields["made"] and clock.mode != fields["mode"]:
        clock.set_mode(fields["mode"])
