"""A stub as it is ordered: its JSON form (docs/testing.md)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from emulator.core.json_text import NotJSON, encode
from emulator.errors import ConfigError
from emulator.scenario.matching import checked
from emulator.scenario.order import Count, Ms, Order, broken, must
from emulator.scenario.stubs import Stub

_Parts = Annotated[list[Any], must("must be a list")]


class StubWhen(Order):
    """For which jobs a stub is."""

    input: Any = Field(None, description="What the job's input must be like; null takes any.")


class StubOrder(Order):
    """For such jobs, this result. Times in ms on the clock."""

    when: StubWhen = Field(default_factory=lambda: StubWhen.read({}))
    returns: Any = Field(None, description="The job's output; without it, its chunks.")
    fails: Annotated[str, must("must be the job's error")] = Field("", description="The job's error.")
    says: Annotated[str, must("must be a text")] = Field(
        "", description="A text that answers an OpenAI route, word by word when it is to be streamed."
    )
    chunks: _Parts = Field([], description="What is streamed on the way.")
    progress: _Parts = Field([], description="The progress reported on the way.")
    delay_ms: Ms | None = Field(None, description="For how long the job runs.")
    times: Count | None = Field(None, description="For how many jobs it is good; null for any number.")

    @model_validator(mode="before")
    @classmethod
    def _has_parts(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        when = fields.get("when")
        if when is None:
            fields = {key: value for key, value in fields.items() if key != "when"}
        elif not isinstance(when, dict) or when.keys() - {"input"}:
            broken('when: must be an object like {"input": {"prompt": "hi"}}')
        ends = [name for name in ("returns", "fails", "says") if name in fields]
        if ends == ["returns", "fails"]:
            broken("a stub either returns or fails: leave one of them out")
        if "says" in ends and (len(ends) > 1 or "chunks" in fields):
            broken("a stub that says something does nothing else: leave returns, fails and chunks out")
        return fields

    def stub(self) -> Stub:
        """The stub in force.

        :raises ConfigError: a value is none that JSON knows, or what the input must be like cannot be.
        """
        given = self.model_fields_set
        try:
            return Stub(
                expected=checked(self.when.input, "when.input"),
                # As with a generator handler whose chunks are aggregated.
                output_json=encode(self.returns if "returns" in given else self.chunks or None, "returns"),
                error=self.fails if "fails" in given else None,
                says=self.says if "says" in given else None,
                chunks=[encode(chunk, "chunks") for chunk in self.chunks],
                progress=[encode(progress, "progress") for progress in self.progress],
                delay_ms=self.delay_ms or 0,
                times=self.times,
            )
        except NotJSON as error:
            raise ConfigError(str(error)) from error
