"""The shapes of the endpoint operations' requests and answers, for the documentation.

They are documented by these models but not run through them: what a client sends must reach its handler
untouched, and checking it by hand is what makes the sentences in a 400 good.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from emulator.core.job import JobStatus
from emulator.core.policy import (
    EXECUTION_TIMEOUT_MAX_MS,
    EXECUTION_TIMEOUT_MIN_MS,
    TTL_DEFAULT_MS,
    TTL_MAX_MS,
    TTL_MIN_MS,
)


class _Wire(BaseModel):
    """Production's names are in camelCase; keys it does not know pass."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow")


class Policy(_Wire):
    """How a job may run (wire.md 2). Times in ms."""

    execution_timeout: Annotated[int, Field(ge=EXECUTION_TIMEOUT_MIN_MS, le=EXECUTION_TIMEOUT_MAX_MS)] = (
        600_000
    )
    low_priority: bool = False
    ttl: Annotated[int, Field(ge=TTL_MIN_MS, le=TTL_MAX_MS)] = TTL_DEFAULT_MS


class S3Config(_Wire):
    """Where a handler may put files; handed on to it, never logged (wire.md 2)."""

    access_id: str
    access_secret: str
    bucket_name: str
    endpoint_url: str
    object_path: str | None = None


class RunRequest(_Wire):
    """The body of /run and /runsync (wire.md 2)."""

    input: bool | int | float | str | list[JsonValue] | dict[str, JsonValue]
    webhook: AnyHttpUrl | None = None
    policy: Policy | None = None
    s3_config: S3Config | None = Field(None, alias="s3Config")


class JobState(_Wire):
    """A job's id and state."""

    id: str
    status: JobStatus


class JobBody(JobState):
    """A job as it stands: each key appears once it is known (wire.md 3). Times in ms."""

    delay_time: int | None = None
    execution_time: int | None = None
    output: JsonValue = None
    error: str | None = None
    retries: int | None = None
    worker_id: str | None = None


class Chunk(_Wire):
    """One piece of a stream."""

    output: JsonValue


class StreamBody(_Wire):
    """What has come since the last read (wire.md 4)."""

    status: JobStatus
    stream: list[Chunk]


class Purged(_Wire):
    """How many queued jobs were cancelled."""

    removed: int
    status: Literal["completed"]


class JobCounts(_Wire):
    """Jobs by what became of them."""

    completed: int
    failed: int
    in_progress: int
    in_queue: int
    retried: int


class WorkerCounts(_Wire):
    """Workers by state."""

    idle: int
    initializing: int
    ready: int
    running: int
    throttled: int
    unhealthy: int


class EndpointHealth(_Wire):
    """The state of an endpoint (wire.md 4)."""

    jobs: JobCounts
    workers: WorkerCounts


class WorkerMetrics(_Wire):
    """The workers of an endpoint (wire.md 4)."""

    workers: WorkerCounts
    #: The ids of those that wait for a job.
    ready_workers: list[str]


class ListedJob(JobBody):
    """A job in the list of an endpoint's requests."""

    created_at: str
    type: Literal["ASYNC", "SYNC"]


class Requests(_Wire):
    """A page of an endpoint's requests, newest first."""

    requests: list[ListedJob]
    total: int
    offset: int
    limit: int
    has_more: bool


class Error(_Wire):
    """The body of every error (wire.md 1)."""

    status: int
    title: str
    detail: str
    error: str


class OpenAIFault(_Wire):
    """What went wrong, in OpenAI's words; a worker's own object is passed on, whatever else it has."""

    message: str
    type: str | None
    code: str | int | None


class OpenAIError(_Wire):
    """The body of every error of the OpenAI routes (wire.md 4)."""

    error: OpenAIFault
