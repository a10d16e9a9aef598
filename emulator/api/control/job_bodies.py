"""What the control API says and takes of jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from emulator.api.control.bodies import ControlForm
from emulator.core.job import JobStatus

_HOUR_MS = 3_600_000


class JobView(ControlForm):
    """All that is known of a job. Times in ms."""

    id: str
    endpoint: str
    status: JobStatus
    input: JsonValue
    output: JsonValue
    error: str | None
    retries: int
    webhook: str | None
    policy: JsonValue
    worker_id: str | None
    submitted_ms: int
    started_ms: int | None
    ended_ms: int | None
    delay_ms: int | None
    execution_ms: int | None
    sync: bool
    #: The job that it repeats.
    again_of: str | None
    #: Why it is IN_QUEUE still, in a sentence; null when it is not.
    waiting_for: str | None
    #: That does not end by itself: somebody has to do something.
    waits_endlessly: bool


class JobsView(ControlForm):
    """Jobs, newest first, and how many there are in all."""

    jobs: list[JobView]
    total: int


class JobBriefView(ControlForm):
    """A job in a few words. Times in ms."""

    id: str
    endpoint: str
    status: JobStatus
    sync: bool
    worker_id: str | None
    submitted_ms: int
    queued_ms: int
    started_ms: int | None
    ended_ms: int | None
    delay_ms: int | None
    execution_ms: int | None
    retries: int
    again_of: str | None
    #: In one line.
    error: str | None
    #: How the input begins.
    preview: str


class JobBriefs(ControlForm):
    """Jobs, newest first."""

    jobs: list[JobBriefView]
    #: Where the next page begins; null at the end.
    next: int | None
    #: How many jobs there are in all, whether asked for or not.
    total: int


class JobFilter(ControlForm):
    """Which jobs are wanted: all that is given must be so."""

    endpoint: str | None = None
    #: One of these states.
    status: list[JobStatus] = Field(default_factory=list)
    #: Part of its id.
    id: str | None = None
    worker: str | None = None
    #: Part of the request as it was sent.
    text: str | None = None
    #: How many of the newest jobs are skipped, whether they are wanted or not.
    offset: Annotated[int, Field(ge=0, le=10**9)] = 0


class JobPage(JobFilter):
    """A page of the jobs that are wanted."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 100


class JobExport(JobFilter):
    """The jobs that are wanted, and how they are to be written."""

    format: Literal["jsonl", "har"] = "jsonl"


class PartialOutput(ControlForm):
    """A chunk of a job's stream, or its progress."""

    at_ms: int
    form: Literal["chunk", "progress"]
    output: JsonValue
    size: int
    truncated: bool = False


class PartialOutputs(ControlForm):
    """What a job has sent before its end, oldest first."""

    outputs: list[PartialOutput]


class RunAgain(ControlForm):
    """What is to be run in place of the job's own request: a body as /run takes it."""

    request: dict[str, JsonValue] | None = None


class JobWait(ControlForm):
    """For how many real ms to wait."""

    timeout_ms: Annotated[int, Field(ge=0, le=_HOUR_MS)] = 30_000


class AttemptDrawn(ControlForm):
    """From the queue to the end of one attempt; `outcome` is a job's state, or LOST."""

    queued_ms: int
    started_ms: int | None
    ended_ms: int | None
    worker_id: str | None
    cold_from_ms: int | None
    cold_to_ms: int | None
    outcome: str | None


class MarkDrawn(ControlForm):
    """A chunk, progress, a fault, a webhook's attempt or a notice."""

    kind: str
    at_ms: int
    from_ms: int | None
    text: str
    fault: str | None
    failed: bool


class Timeline(ControlForm):
    """What happened to a job: in lines, and as it can be drawn. Times in ms."""

    lines: list[str]
    attempts: list[AttemptDrawn]
    marks: list[MarkDrawn]
