"""The bodies of the control API: what it takes, and what it answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from emulator.api.wire import EndpointHealth
from emulator.clock.clock import UNTIL_MAX_MS
from emulator.core.config import WorkerKind
from emulator.core.job import JobStatus
from emulator.core.policy import TTL_DEFAULT_MS
from emulator.core.request import MissingInput
from emulator.core.scaling import ScalerType
from emulator.core.worker import WorkerState
from emulator.history.journal import EntryKind

_HOUR_MS = 3_600_000
_HUNDRED_YEARS_MS = 100 * 365 * 86_400_000


class _Control(BaseModel):
    """Our own API refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid")


class Health(_Control):
    """The emulator serves."""

    status: Literal["ok"]
    version: str
    uptime_s: float


class Ready(_Control):
    """Every endpoint can run jobs."""

    ready: Literal[True]


class NotReady(_Control):
    """Why jobs cannot run yet."""

    ready: Literal[False]
    reasons: list[str]


class StoredObject(_Control):
    """An object in the S3 store; its size in bytes."""

    bucket: str
    key: str
    size: int
    content_type: str
    last_modified: str


class StoreView(_Control):
    """The S3 store, and what is in it."""

    endpoint_url: str
    bucket: str
    pid: int | None
    objects: list[StoredObject]


class TimerView(_Control):
    """A timer: when, what it is for, and the id of the job or worker that it is about."""

    at_ms: int
    kind: str
    subject: str | None


class ClockState(_Control):
    """The emulated time (ms since the epoch), and how it runs."""

    mode: str
    rate: float
    now_ms: int
    pending: int
    next_timer: TimerView | None
    #: The first thousand.
    timers: list[TimerView]


class ClockMode(_Control):
    """How time is to run: `real`, `frozen`, `auto` or `scaled:N`."""

    mode: str


class JobReached(_Control):
    """A job that is to get into a state."""

    job: str
    status: JobStatus


class Advance(_Control):
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


class ResetCounts(_Control):
    """Per endpoint, how many jobs were forgotten and workers restarted."""

    reset: dict[str, dict[str, int]]


class WorkerView(_Control):
    """A worker: what it is, what it holds, and why it is in its state."""

    id: str
    endpoint: str
    kind: WorkerKind
    state: WorkerState
    reason: str
    #: The ids of the jobs it holds.
    jobs: list[str]
    #: Crashes since it last finished a job.
    crashes: int
    since_ms: int
    process_id: int | None
    #: Why it is given no jobs, though it may ask; null while it is.
    paused: str | None
    #: Of its process and all that this has started; null where it has none, or nobody asked.
    memory_bytes: int | None = None
    cpu_s: float | None = None


class WorkerActed(_Control):
    """The worker as it now stands, or what stands in its place; null when it has gone."""

    worker: WorkerView | None


class Workers(_Control):
    """All workers of all endpoints."""

    workers: list[WorkerView]
    #: Per endpoint whose workers do not start, why.
    obstacles: dict[str, str]


class LogLine(_Control):
    """A line that a worker wrote."""

    number: int
    at_ms: int
    worker_id: str
    job_id: str | None
    stream: Literal["stdout", "stderr"]
    level: str | None
    text: str


class LogLines(_Control):
    """The newest lines, oldest first."""

    lines: list[LogLine]


class EndpointSettings(_Control):
    """What an endpoint is to be; what is not given has production's default (docs/settings.md)."""

    #: `module:function`, `path.py:function`, `path.py`; null answers by stubs.
    handler: str | None = None
    #: An image whose containers are the workers, in place of a handler.
    image: str | None = None
    worker_kind: WorkerKind = WorkerKind.INLINE
    workers_min: int = 0
    workers_max: int = 3
    idle_timeout_s: float = 5.0
    execution_timeout_ms: int = 600_000
    ttl_ms: int = TTL_DEFAULT_MS
    scaler_type: ScalerType = ScalerType.QUEUE_DELAY
    scaler_value: int = 4
    cold_start_ms: int = 0
    #: Null is production's: 10 for /run, 20 for /runsync.
    result_limit_mib: int | None = None
    #: What becomes of a request without an input.
    missing_input: MissingInput = MissingInput.REFUSE
    flashboot: bool = False
    #: What process workers run in place of a handler: a text, or its words.
    command: str | list[str] = []
    #: The folder workers run in; null is the emulator's own.
    workdir: str | None = None
    python: str | None = None
    worker_env: dict[str, str] = {}
    worker_args: list[str] = []
    #: A time of its own (`real`, `frozen`, `auto`, `scaled:N`); null shares the emulator's.
    clock: str | None = None


class LiveSettings(_Control):
    """What can be changed while an endpoint runs; what is not given stays."""

    workers_min: Annotated[int, Field(strict=True)] | None = None
    workers_max: Annotated[int, Field(strict=True)] | None = None
    idle_timeout_s: float | None = None
    execution_timeout_ms: Annotated[int, Field(strict=True)] | None = None
    scaler_type: ScalerType | None = None
    scaler_value: Annotated[int, Field(strict=True)] | None = None


class OfferedInput(_Control):
    """A job that a file beside the handler describes."""

    name: str
    file: str
    input: JsonValue


class OfferedInputs(_Control):
    """The inputs of the files `test_input.json` and `.runpod/tests.json`."""

    inputs: list[OfferedInput]


class EndpointView(_Control):
    """An endpoint."""

    id: str
    url: str
    handler: str
    worker_kind: WorkerKind
    workers_min: int
    workers_max: int
    idle_timeout_s: float
    execution_timeout_ms: int
    scaler_type: ScalerType
    scaler_value: int
    clock: str
    own_clock: bool
    #: Why no worker starts, in a sentence; null when one can, as far as is known.
    obstacle: str | None
    health: EndpointHealth


class EndpointsView(_Control):
    """All endpoints; the first also answers at the root."""

    endpoints: list[EndpointView]


class StubView(_Control):
    """A stub, and how often it was matched."""

    id: int
    when: dict[str, Any]
    #: What a job then does: `returns`, `fails` or `says`, `chunks`, `progress`, `delay_ms`.
    then: dict[str, Any]
    times: int | None
    matched: int


class StubChange(_Control):
    """What can be changed about a stub."""

    times: Annotated[int, Field(ge=0)] | None


class StubsView(_Control):
    """The stubs of an endpoint, in the order in which they are tried."""

    stubs: list[StubView]


class Deleted(_Control):
    """How many there were."""

    deleted: int


class JobView(_Control):
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


class JobsView(_Control):
    """Jobs, newest first, and how many there are in all."""

    jobs: list[JobView]
    total: int


class JobBriefView(_Control):
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


class JobBriefs(_Control):
    """Jobs, newest first."""

    jobs: list[JobBriefView]
    #: Where the next page begins; null at the end.
    next: int | None
    #: How many jobs there are in all, whether asked for or not.
    total: int


class JobFilter(_Control):
    """Which jobs are wanted: all that is given must be so."""

    endpoint: str | None = None
    #: One of these states.
    status: list[JobStatus] = []
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


class PartialOutput(_Control):
    """A chunk of a job's stream, or its progress."""

    at_ms: int
    form: Literal["chunk", "progress"]
    output: JsonValue
    size: int
    truncated: bool = False


class PartialOutputs(_Control):
    """What a job has sent before its end, oldest first."""

    outputs: list[PartialOutput]


class RunAgain(_Control):
    """What is to be run in place of the job's own request: a body as /run takes it."""

    request: dict[str, JsonValue] | None = None


class JobWait(_Control):
    """For how many real ms to wait."""

    timeout_ms: Annotated[int, Field(ge=0, le=_HOUR_MS)] = 30_000


class AttemptDrawn(_Control):
    """From the queue to the end of one attempt; `outcome` is a job's state, or LOST."""

    queued_ms: int
    started_ms: int | None
    ended_ms: int | None
    worker_id: str | None
    cold_from_ms: int | None
    cold_to_ms: int | None
    outcome: str | None


class MarkDrawn(_Control):
    """A chunk, progress, a fault, a webhook's attempt or a notice."""

    kind: str
    at_ms: int
    from_ms: int | None
    text: str
    fault: str | None
    failed: bool


class Timeline(_Control):
    """What happened to a job: in lines, and as it can be drawn. Times in ms."""

    lines: list[str]
    attempts: list[AttemptDrawn]
    marks: list[MarkDrawn]


class FaultView(_Control):
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


class FaultsView(_Control):
    """Rules in force."""

    faults: list[FaultView]


class Presets(_Control):
    """Names of presets."""

    presets: list[str]


class ReceivedView(_Control):
    """A call that a sink received."""

    number: int
    at_ms: int
    method: str
    headers: dict[str, str]
    body: JsonValue
    status: int


class SinkBrief(_Control):
    """A webhook receiver, and how often it was called."""

    name: str
    url: str
    count: int


class SinksView(_Control):
    """The receivers there are."""

    sinks: list[SinkBrief]


class SinkView(_Control):
    """A webhook receiver: where it is, what came, and what it will answer."""

    name: str
    url: str
    count: int
    deliveries: list[ReceivedView]
    answers: list[dict[str, Any]]


class CountWait(_Control):
    """For how many of them to wait, and for how many real ms."""

    count: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    timeout_ms: Annotated[int, Field(ge=0, le=_HOUR_MS)] = 5_000


class JournalView(_Control):
    """Entries of the journal, oldest first."""

    entries: list[dict[str, Any]]


class JournalQuery(_Control):
    """Which entries are wanted (docs/testing.md)."""

    kind: EntryKind | None = None
    endpoint: str | None = None
    job: str | None = None
    since: int = 0
    match: Any = None
    limit: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


class JournalWait(JournalQuery, CountWait):
    """For how many of which entries to wait."""


class JournalCount(_Control):
    """How many there are."""

    count: int


class AttemptView(_Control):
    """One call of a webhook."""

    began_ms: int
    at_ms: int
    status: int | None
    failure: str | None
    #: How the answer's body begins.
    answer: str


class Redelivery(_Control):
    """Where a webhook is to be sent once more; without a URL to where it went."""

    url: str | None = None


class DeliveryView(_Control):
    """A webhook's delivery."""

    id: int
    endpoint: str
    job_id: str
    url: str
    delivered: bool
    #: No attempt will follow.
    over: bool
    attempts: list[AttemptView]


class DeliveryDetail(DeliveryView):
    """A webhook's delivery, with what was sent."""

    body: JsonValue


class DeliveriesView(_Control):
    """Deliveries, oldest first."""

    webhooks: list[DeliveryView]


class Charted(_Control):
    """Figures over time: a value for each of the moments `at_ms`, which end the steps."""

    now_ms: int
    at_ms: list[int]
    #: Jobs that ended, by state.
    ended: dict[str, list[int]]
    #: Jobs that went back to the queue.
    requeued: list[int]
    cold_starts: list[int]
    #: Percentiles in ms, `p70`, `p90` and `p98`.
    delay_ms: dict[str, list[int | None]]
    execution_ms: dict[str, list[int | None]]
    cold_start_ms: dict[str, list[int | None]]
    #: The most in each state.
    workers: dict[str, list[int]]
    #: How many answers of each status webhooks have had in all.
    webhooks: dict[str, int]
    totals: dict[str, int]


class ControlProblem(_Control):
    """What was wrong and what to do."""

    code: str
    message: str
    hint: str


class ControlErrorBody(_Control):
    """The body of the control API's errors."""

    error: ControlProblem
