"""Answers without a handler: for which input an endpoint's job ends how."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from emulator.core.bounds import STUBS_MAX
from emulator.errors import ConfigError, EmulatorError
from emulator.scenario.matching import as_json, differences, shown

_SHOWN_DIFFERENCES = 5
_SHOWN_INPUT = 300
#: Of an output or of chunks that a list of stubs shows, bytes.
_SHOWN_OUTPUT = 16_384


class NoStubMatches(EmulatorError):
    """A job for which no stub was defined; says which comes nearest, and what differs."""


@dataclass(slots=True, kw_only=True)
class Stub:
    """One definition: for inputs like `expected`, this result. Times in ms."""

    number: int = 0
    #: What the input must be like (see `matching`); None takes any.
    expected: object = None
    #: As JSON text.
    output_json: bytes = b"null"
    error: str | None = None
    #: In place of output and chunks: a text, in the form of the route that was asked.
    says: str | None = None
    #: Each as JSON text.
    chunks: list[bytes] = field(default_factory=list)
    progress: list[bytes] = field(default_factory=list)
    delay_ms: int = 0
    #: For how many jobs it is good; None for any number.
    times: int | None = None
    matched: int = 0

    @property
    def used_up(self) -> bool:
        """Whether it has been matched as often as it may."""
        return self.times is not None and self.matched >= self.times

    def as_json(self) -> dict[str, Any]:
        """What a list of stubs shows of it."""
        try:
            expected = as_json(self.expected)
        except ConfigError:
            expected = repr(self.expected)
        return {
            "id": self.number,
            "when": {} if self.expected is None else {"input": expected},
            "then": self._then(),
            "times": self.times,
            "matched": self.matched,
        }

    def _then(self) -> dict[str, Any]:
        """What it does, in the words of the order."""
        told: dict[str, Any] = {}
        if self.error is not None:
            told["fails"] = self.error
        elif self.says is not None:
            told["says"] = self.says
        else:
            told["returns"] = _shown_parts([self.output_json])[0]
        if self.chunks:
            told["chunks"] = _shown_parts(self.chunks)
        if self.progress:
            told["progress"] = _shown_parts(self.progress)
        return told | ({"delay_ms": self.delay_ms} if self.delay_ms else {})

    def describe(self) -> str:
        """The stub, as the test wrote it."""
        return f"stub {self.number}, when(input={self.expected!r})"


class Stubs:
    """An endpoint's stubs. Of those that match and are not used up, the first that was defined counts."""

    def __init__(self) -> None:
        self._stubs: list[Stub] = []
        #: Of the one that was defined last: numbers stay as they are when others are forgotten.
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._stubs)

    def __iter__(self) -> Iterator[Stub]:
        return iter(self._stubs)

    def add(self, stub: Stub) -> Stub:
        """Put a stub in force.

        :raises ConfigError: there are too many.
        """
        if len(self._stubs) >= STUBS_MAX:
            raise ConfigError(f"there are {STUBS_MAX} stubs already: clear them, or reset")
        self._last_number += 1
        stub.number = self._last_number
        self._stubs.append(stub)
        return stub

    def get(self, number: int) -> Stub:
        """The stub with this number.

        :raises ConfigError: there is none.
        """
        found = next((stub for stub in self._stubs if stub.number == number), None)
        if found is None:
            raise ConfigError(f"there is no stub {number}: there are {len(self._stubs)}")
        return found

    def remove(self, number: int) -> None:
        """Forget one.

        :raises ConfigError: there is none with this number.
        """
        self._stubs.remove(self.get(number))

    def clear(self) -> int:
        """Forget all; returns how many there were."""
        count = len(self._stubs)
        self._stubs.clear()
        self._last_number = 0
        return count

    def take(self, actual: object) -> Stub:
        """The stub for a job with this input; counts that it was matched.

        :raises NoStubMatches: there is none.
        """
        nearest: tuple[int, str] | None = None
        for stub in self._stubs:
            found = [] if stub.expected is None else list(differences(stub.expected, actual))
            if not found and not stub.used_up:
                stub.matched += 1
                return stub
            told = (
                f"it is used up: it was for {stub.times} {'job' if stub.times == 1 else 'jobs'}"
                if not found
                else "; ".join(found[:_SHOWN_DIFFERENCES])
            )
            if nearest is None or len(found) < nearest[0]:
                nearest = len(found), f"{stub.describe()}: {told}"
        nearby = "" if nearest is None else f"; nearest is {nearest[1]}"
        raise NoStubMatches(f"no stub matches the input {shown(actual, _SHOWN_INPUT)}{nearby}")


def _shown_parts(parts: list[bytes]) -> list[Any]:
    """JSON texts as values, as far as they are not too long for a list."""
    found: list[Any] = []
    room = _SHOWN_OUTPUT
    for text in parts:
        room -= len(text)
        found.append(json.loads(text) if room >= 0 else "…")
    return found
