"""What the control API says of workers and their logs."""

from __future__ import annotations

from typing import Literal

from emulator.api.control.bodies import ControlForm
from emulator.core.config import WorkerKind
from emulator.core.worker import WorkerState


class WorkerView(ControlForm):
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


class WorkerActed(ControlForm):
    """The worker as it now stands, or what stands in its place; null when it has gone."""

    worker: WorkerView | None


class Workers(ControlForm):
    """All workers of all endpoints."""

    workers: list[WorkerView]
    #: Per endpoint whose workers do not start, why.
    obstacles: dict[str, str]


class LogLine(ControlForm):
    """A line that a worker wrote."""

    number: int
    at_ms: int
    worker_id: str
    job_id: str | None
    stream: Literal["stdout", "stderr"]
    level: str | None
    text: str


class LogLines(ControlForm):
    """The newest lines, oldest first."""

    lines: list[LogLine]
