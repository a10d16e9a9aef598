"""What happened, as data. Logs and webhooks subscribe; the core does not know them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from emulator.core.job import Job, JobStatus
    from emulator.core.worker import WorkerState


log = logging.getLogger("emulator.core")


@dataclass(slots=True)
class JobMoved:
    """A job changed its state; `before` is None when it was submitted."""

    endpoint_id: str
    job: Job
    before: JobStatus | None
    at_ms: int


@dataclass(slots=True)
class WorkerMoved:
    """A worker started, became ready, crashed or went away; None before it existed and after it is gone.

    Taking a job and letting go of it are told by `JobMoved` alone.
    """

    endpoint_id: str
    worker_id: str
    before: WorkerState | None
    after: WorkerState | None
    reason: str
    at_ms: int
    #: It did not go by itself, nor was it told to: it crashed, or fell silent.
    lost: bool = False


@dataclass(slots=True)
class Notice:
    """Something a person should know about a job, a worker or the endpoint."""

    endpoint_id: str
    level: Literal["info", "warning"]
    message: str
    at_ms: int
    job_id: str | None = None
    worker_id: str | None = None


@dataclass(slots=True, frozen=True)
class WorkerLine:
    """A line that a worker has written."""

    text: str
    #: `stdout` or `stderr`.
    stream: str
    #: The job it is about, where the line says so itself (the SDK's log lines do).
    job_id: str | None = None
    #: Of the SDK's own lines alone: `DEBUG`, `INFO`, `WARN`, `ERROR`.
    level: str | None = None


@dataclass(slots=True)
class WorkerWrote:
    """A worker has written a line; `job_id` is the job it is most likely about."""

    endpoint_id: str
    worker_id: str
    job_id: str | None
    line: WorkerLine
    at_ms: int


@dataclass(slots=True)
class JobOutput:
    """A job has sent a part of its output before its end: a chunk of its stream, or its progress."""

    endpoint_id: str
    job_id: str
    worker_id: str | None
    form: Literal["chunk", "progress"]
    #: JSON text.
    output_json: bytes
    at_ms: int


@dataclass(slots=True)
class ChunksRead:
    """A reader has been given the oldest chunks of a job's stream; for who keeps state, not for people."""

    endpoint_id: str
    job: Job
    count: int


@dataclass(slots=True)
class JobForgotten:
    """A job is found no more: its retention is over; for who keeps state, not for people."""

    endpoint_id: str
    job: Job


@dataclass(slots=True)
class FaultFired:
    """A fault that was ordered has struck."""

    endpoint_id: str
    rule_id: str
    #: What it does, e.g. `crash: mid`.
    effect: str
    at_ms: int
    job_id: str | None = None
    worker_id: str | None = None


Event: TypeAlias = JobMoved | JobOutput | WorkerMoved | Notice | WorkerWrote | FaultFired
#: With what matters to those alone who keep the state.
Change: TypeAlias = Event | ChunksRead | JobForgotten
Listener: TypeAlias = Callable[[Event], None]
_E = TypeVar("_E", bound=Change)


def unfailing(listener: Callable[[_E], None]) -> Callable[[_E], None]:
    """A listener that cannot break off what it is told of: what it raises is logged, and goes no further."""
    failed = False

    def tell(event: _E) -> None:
        nonlocal failed
        try:
            listener(event)
        except Exception as error:
            if not failed:
                log.exception("a listener failed when it was told of this: %s", event)
            else:
                log.error("a listener failed once more: %s", type(error).__name__)
            failed = True

    return tell
