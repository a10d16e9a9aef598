"""A worker as the endpoint sees it: its state, the jobs it holds, and what it has been told to stop."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from emulator.core.wakeup import Wakeup

if TYPE_CHECKING:
    from emulator.core.job import Job
    from emulator.core.timers import Timer


class WorkerState(StrEnum):
    """The states /health counts (wire.md 6)."""

    INITIALIZING = "initializing"
    """Starting: it has not asked for a job yet (cold start)."""
    IDLE = "idle"
    """Up, without a job."""
    RUNNING = "running"
    """Holds at least one job, or has not let go yet of one it was told to stop."""
    THROTTLED = "throttled"
    """Wanted, but no machine is free for it."""
    UNHEALTHY = "unhealthy"
    """Crashed; it is started again after a growing delay."""


class WorkerLauncher(Protocol):
    """Who really starts and ends workers. A started worker reports at the gateway by its first take."""

    def start(self, worker_id: str) -> None:
        """Begin to start the worker; return at once."""

    def stop(self, worker_id: str) -> None:
        """End a worker that holds no job."""

    def kill(self, worker_id: str) -> None:
        """End a worker that does not let go of a job; whatever it still does is without effect."""


class Worker:
    """One worker's record. Only `WorkerPool` and `Endpoint` change it."""

    __slots__ = (
        "crashes", "id", "idle_since_ms",
        "idle_timer", "jobs", "missing", "ping_timer", "restart_timer", "retiring", "state",
        "stop_called", "stop_signals", "stopping",
    )  # fmt: skip

    def __init__(self, worker_id: str) -> None:
        self.id = worker_id
        self.state = WorkerState.INITIALIZING
        #: The jobs it holds.
        self.jobs: dict[str, Job] = {}
        #: Jobs it was told to stop and has not let go of yet, with the deadline for each.
        self.stopping: dict[str, Timer] = {}
        #: Stop signals it has not fetched yet.
        self.stop_signals: list[str] = []
        self.stop_called = Wakeup()
        #: Held jobs that its last heartbeat did not name.
        self.missing: frozenset[str] = frozenset()
        self.idle_since_ms = 0
        self.idle_timer: Timer | None = None
        #: Runs out when a worker that sends heartbeats goes silent.
        self.ping_timer: Timer | None = None
        self.restart_timer: Timer | None = None
        #: It goes away once it holds no job (refresh_worker).
        self.retiring = False
        #: Crashes in a row.
        self.crashes = 0

    @property
    def busy(self) -> bool:
        """Whether it holds a job, be it one it should have let go of."""
        return bool(self.jobs or self.stopping)
