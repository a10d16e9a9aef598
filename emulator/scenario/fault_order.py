"""A fault rule as it is ordered: its JSON form (docs/faults.md)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from emulator.core.json_text import NotJSON, encode
from emulator.scenario.fault_rule import CALLS, EFFECTS, FaultRule, Point
from emulator.scenario.matching import checked, is_deep
from emulator.scenario.order import Count, Ms, Order, Status, broken, did_you_mean, must

#: RFC 9110: what a header may be called.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADERS = 'must be an object like {"Retry-After": "1"}'
#: What may stand beside an effect.
_BESIDE = {"headers": "status", "body": "status", "after_ms": "crash"}

_True = Annotated[Literal[True], must("must be true")]
_Id = Annotated[str, Field(min_length=1, max_length=200), must("must be an endpoint's id")]


class FaultMatch(Order):
    """What a rule is for; what is left out may be anything."""

    endpoint: _Id | None = None
    operation: Annotated[str | None, must("must be the name of a call")] = Field(
        None, description=f"A call: one of {', '.join(CALLS)}."
    )
    input: Any = Field(None, description="What the job's input must be like (docs/testing.md).")

    @field_validator("operation")
    @classmethod
    def _is_a_call(cls, operation: str | None) -> str | None:
        if operation is not None and operation not in CALLS:
            broken(f"there is no {operation[:100]!r}{did_you_mean(operation, CALLS)}")
        return operation


class FaultThen(Order):
    """What goes wrong: exactly one effect, with what may stand beside it."""

    status: Status = Field(503, description="A call is answered with this status.")
    headers: Annotated[dict[str, JsonValue], must(_HEADERS)] = Field(
        {}, description="Beside `status`: headers of the answer."
    )
    body: JsonValue = Field(None, description="Beside `status`: the answer's body.")
    latency_ms: Ms = Field(0, description="A call is looked at so much later.")
    connection: Annotated[Literal["reset", "truncate"], must("must be reset or truncate")] = Field(
        "reset", description="A call's connection is cut: before an answer, or half-way through it."
    )
    stall_ms: Ms = Field(0, description="A job is IN_QUEUE for so long before a worker can get it.")
    fail: Annotated[str, Field(min_length=1), must("must be the job's error")] = Field(
        "", description="The job fails with this error."
    )
    duplicate: _True = Field(True, description="The job is given to two workers.")
    crash: Annotated[Literal["before", "mid"], must("must be before or mid")] = Field(
        "before", description="The worker dies: before its handler begins, or while it runs."
    )
    after_ms: Ms = Field(0, description="Beside `crash`: how long after the handler began.")
    hang: _True = Field(True, description="The worker takes the job, and nothing more comes of it.")
    ignore_cancel: _True = Field(True, description="The worker goes on when it is told to stop.")
    lose_output: _True = Field(True, description="The job completes without its output.")
    lose_result: _True = Field(True, description="The job's result does not arrive.")
    stop_heartbeat: _True = Field(True, description="The worker goes silent.")
    slow_start_ms: Ms = Field(0, description="A worker takes so much longer to start.")
    throttled_ms: Ms = Field(0, description="No machine is free for a worker for so long.")
    webhook: Annotated[Literal["refuse", "duplicate"], must("must be refuse or duplicate")] = Field(
        "refuse", description="A webhook's call is refused, or made twice."
    )
    webhook_delay_ms: Ms = Field(0, description="A webhook is called so much later.")

    @model_validator(mode="before")
    @classmethod
    def _has_one_effect(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            broken('must be an object like {"status": 503}')
        names = [name for name in fields if name in EFFECTS]
        if len(names) != 1:
            unknown = next((name for name in fields if name not in EFFECTS), None)
            meant = "" if unknown is None else did_you_mean(str(unknown), EFFECTS)
            broken(
                f"must have exactly one of {', '.join(EFFECTS)}{meant if meant.startswith(': did') else ''}"
            )
        for beside, effect in _BESIDE.items():
            if beside in fields and effect not in fields:
                broken(f"{beside} stands beside {effect} alone")
        if is_deep(fields):
            broken("is nested too deeply")
        return fields

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name, value in headers.items():
            text = str(value)
            if not _HEADER_NAME.fullmatch(name) or not (text.isascii() and text.isprintable()):
                broken(_HEADERS)
        return headers

    @field_validator("body")
    @classmethod
    def _is_text_or_json(cls, body: JsonValue) -> JsonValue:
        if isinstance(body, str):
            try:
                body.encode()
            except UnicodeEncodeError:
                broken("has half of a surrogate pair, which no text has")
        else:
            try:
                encode(body, "it")
            except NotJSON as error:
                broken(f"must be JSON: {error}")
        return body


class FaultOrder(Order):
    """A rule of what is to go wrong: which, where, how often."""

    id: str | None = Field(None, max_length=200)
    match: FaultMatch = Field(default_factory=lambda: FaultMatch.read({}))
    skip: Count = Field(0, description="For so many that match nothing happens first.")
    times: Count | None = Field(None, description="How often it fires at most; null for ever.")
    probability: Annotated[float, Field(ge=0, le=1), must("must be a number from 0 to 1")] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), must("must be a whole number")] = 0
    then: FaultThen

    @model_validator(mode="before")
    @classmethod
    def _has_parts(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        if fields.get("match", {}) is None:
            fields = {**fields, "match": {}}
        if not isinstance(fields.get("match", {}), dict):
            broken('match: must be an object like {"operation": "run"}')
        if not isinstance(fields.get("then"), dict):
            broken('then: must be an object like {"status": 503}')
        return fields

    def rule(self) -> FaultRule:
        """The rule in force.

        :raises ConfigError: what the input must be like cannot be.
        """
        then = self.then.model_dump(exclude_unset=True)
        effect = next(name for name in then if name in EFFECTS)
        return FaultRule(
            id=self.id or "",
            effect=effect,
            value=then.pop(effect),
            more=then,
            endpoint_id=self.match.endpoint,
            operation=self.match.operation,
            input=checked(self.match.input, "match.input"),
            skip=self.skip,
            times=self.times,
            probability=self.probability,
            seed=self.seed,
        )

    @model_validator(mode="after")
    def _operation_is_a_calls(self) -> FaultOrder:
        effect = next(name for name in self.then.model_fields_set if name in EFFECTS)
        if self.match.operation is not None and EFFECTS[effect] is not Point.CALL:
            broken(f"match.operation: a call has one, which {effect} is not about: leave it out")
        return self
