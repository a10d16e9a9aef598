"""A sink's answer as it is ordered: its JSON form (docs/testing.md)."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from emulator.scenario.order import Ms, Order, Status, broken
from emulator.webhooks.sinks import Answer


class AnswerOrder(Order):
    """What a sink is to answer: a status, or an object."""

    status: Status = 200
    body: str = Field("", description="Its text.")
    delay_ms: Ms = Field(0, description="How long it takes, in ms on the clock.")

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_status(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"status": value}
        if not isinstance(value, dict):
            broken('an answer is a status, or an object like {"status": 500, "body": "", "delay_ms": 0}')
        return value

    @field_validator("body")
    @classmethod
    def _is_text(cls, body: str) -> str:
        try:
            body.encode()
        except UnicodeEncodeError:
            broken("has half of a surrogate pair, which no text has")
        return body

    def answer(self) -> Answer:
        """The answer in force."""
        return Answer(self.status, self.body, self.delay_ms)


class SinkAnswers(Order):
    """What a sink is to answer, in order; after them 200."""

    answers: list[AnswerOrder]
