"""The bodies of the control API: what it takes, and what it answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from emulator.clock.clock import UNTIL_MAX_MS
from emulator.core.job import JobStatus

_HOUR_MS = 3_600_000
_HUNDRED_YEARS_MS = 100 * 365 * 86_400_000


class ControlForm(BaseModel):
    """Our own API refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid")


class Health(ControlForm):
    """The emulator serves."""

    status: Literal["ok"]
    version: str
    uptime_s: float


class Ready(ControlForm):
    """Every endpoint can run jobs."""

    ready: Literal[True]


class NotReady(ControlForm):
    """Why jobs cannot run yet."""

    ready: Literal[False]
    reasons: list[str]


class StoredObject(ControlForm):
    """An object in the S3 store; its size in bytes."""

    bucket: str
    key: str
    size: int
    content_type: str
    last_modified: str


class StoreView(ControlForm):
    """The S3 store, and what is in it."""

    endpoint_url: str
    bucket: str
    pid: int | None
    objects: list[StoredObject]


class TimerView(ControlForm):
    """A timer: when, what it is for, and the id of the job or worker that it is about."""

    at_ms: int
    kind: str
    subject: str | None


class ClockState(ControlForm):
    """The emulated time (ms since the epoch), and how it runs."""

    mode: str
    rate: float
    now_ms: int
    pending: int
    next_timer: TimerView | None
    #: The first thousand.
    timers: list[TimerView]


class ClockMode(ControlForm):
    """How time is to run: `real`, `frozen`, `auto` or `scaled:N`."""

    mode: str


class JobReached(ControlForm):
    """A job that is to get into a state."""

    job: str
    status: JobStatus


class Advance(ControlForm):
    """How far time is to move: by so many ms, to the next timer, or until a job is in a state."""

    by_ms: Annotated[int, Field(ge=0, le=_HUNDRED_YEARS_MS, strict=True)] | None = None
    to_next: Literal[True] | None = None
    until: JobReached | None = None
    #: `until` goes no further than this.
    max_ms: Annotated[int, Field(ge=0, le=_HUNDRED_YEARS_MS, strict=True)] = UNTIL_MAX_MS

    @model_validator(mode="after")
    def _one_of_them(self) -> Advance:
        if (self.by_ms is not None) + (self.to_next is not None) + (self.until is not None) != 1:
            raise ValueError('give one of "by_ms", "to_next" and "until"')
        return self


class Advanced(ClockState):
    """The time after an advance, and the timers that fired on the way (the first thousand of them)."""

    fired: list[TimerView]
    fired_total: int


class ResetCounts(ControlForm):
    """Per endpoint, how many jobs were forgotten and workers restarted."""

    reset: dict[str, dict[str, int]]


class Deleted(ControlForm):
    """How many there were."""

    deleted: int


class FaultView(ControlForm):
    """A rule of what is to go wrong."""

    id: str
    match: dict[str, Any]
    skip: int
    times: int | None
    probability: float
    seed: int
    then: dict[str, Any]
    matched: int
    fired: int


class FaultsView(ControlForm):
    """Rules in force."""

    faults: list[FaultView]


class Presets(ControlForm):
    """Names of presets."""

    presets: list[str]


class ControlProblem(ControlForm):
    """What was wrong and what to do."""

    code: str
    message: str
    hint: str


class ControlErrorBody(ControlForm):
    """The body of the control API's errors."""

    error: ControlProblem
