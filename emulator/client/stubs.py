"""Answers without a handler, as a test writes them."""

from __future__ import annotations

from typing import Any

from emulator.client.connection import Connection, Duration, in_ms
from emulator.errors import ConfigError
from emulator.scenario.matching import as_json, checked, shown


class StubClient:
    """A stub in the making: `when(input={"prompt": "hi"}).returns({"text": "ho"}).times(2)`."""

    def __init__(self, connection: Connection, endpoint_id: str, expected: object) -> None:
        self._connection = connection
        self._endpoint_id = endpoint_id
        self._expected = expected
        self._times: int | None = None
        self._number: int | None = None
        #: What becomes of its jobs has been said, be it what was then refused.
        self._says = False

    @property
    def says_nothing(self) -> str:
        """What is missing, while it does not say what becomes of the jobs it is for; else empty."""
        if self._says:
            return ""
        for_jobs = "" if self._expected is None else f"input={shown(self._expected, 60)}"
        return (
            f"endpoint.when({for_jobs}) does not say what becomes of such jobs:"
            " add .returns(…) or .fails(…) to it"
        )

    def returns(
        self,
        output: Any = None,
        *,
        delay: Duration = 0,
        chunks: list[Any] | None = None,
        progress: list[Any] | None = None,
    ) -> StubClient:
        """Such jobs complete with `output` after `delay` (on the clock: ms, `"2s"`, a timedelta).

        `chunks` are streamed and `progress` updates reported on the way; without an output the chunks are it.
        """
        fields: dict[str, Any] = {"delay_ms": in_ms(delay)}
        if output is not None or not chunks:
            fields["returns"] = output
        if chunks:
            fields["chunks"] = chunks
        if progress:
            fields["progress"] = progress
        return self._define(fields)

    def fails(self, error: str, *, delay: Duration = 0) -> StubClient:
        """Such jobs fail with `error` after `delay` (on the clock: ms, `"2s"`, a timedelta)."""
        return self._define({"fails": error, "delay_ms": in_ms(delay)})

    def says(self, text: str, *, delay: Duration = 0) -> StubClient:
        """Such calls of an OpenAI route are answered with `text`, in the form that the route has.

        A call that asks for a stream gets it word by word, spread over `delay` (ms on the clock, or a
        timedelta). Jobs that are no OpenAI calls have the text as output, and its words as chunks.
        """
        return self._define({"says": text, "delay_ms": in_ms(delay)})

    def times(self, count: int) -> StubClient:
        """It is good for so many jobs; those after them are for the next stub that matches.

        :raises ConfigError: that is none.
        """
        if count < 1:
            raise ConfigError(f"times({count}): a stub is good for at least one job")
        self._times = count
        if self._number is not None:
            self._connection.control("PATCH", f"{self._path}/{self._number}", {"times": count})
        return self

    @property
    def matched(self) -> int:
        """How many jobs it has answered."""
        stubs = self._connection.control("GET", self._path)["stubs"]
        return next((int(stub["matched"]) for stub in stubs if stub["id"] == self._number), 0)

    @property
    def _path(self) -> str:
        return f"/endpoints/{self._endpoint_id}/stubs"

    def _define(self, fields: dict[str, Any]) -> StubClient:
        self._says = True
        if self._times is not None:
            fields["times"] = self._times
        if _has_function(self._expected):
            # Only here, and not where a client is made: pydantic takes a while to import.
            from emulator.scenario.stub_order import StubOrder

            stub = StubOrder.read(fields).stub()
            stub.expected = checked(self._expected, "when.input")
            self._number = self._connection.in_process("a matcher").add_stub(self._endpoint_id, stub)
        else:
            when = {} if self._expected is None else {"input": as_json(self._expected)}
            self._number = self._connection.control("POST", self._path, {"when": when, **fields})["id"]
        return self


def _has_function(expected: object) -> bool:
    if isinstance(expected, dict):
        return any(map(_has_function, expected.values()))
    if isinstance(expected, list | tuple):
        return any(map(_has_function, expected))
    return callable(expected)
