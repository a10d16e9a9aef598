"""What happened, as data. Logs and webhooks subscribe; the core does not know them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from emulator.core.job import Job, JobStatus
    from emulator.core.worker import WorkerState


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


@dataclass(slots=True)
class Notice:
    """Something a person should know about a job, a worker or the endpoint."""

    endpoint_id: str
    level: Literal["info", "warning"]
    message: str
    at_ms: int
    job_id: str | None = None
    worker_id: str | None = None


Event: TypeAlias = JobMoved | WorkerMoved | Notice
Listener: TypeAlias = Callable[[Event], None]
