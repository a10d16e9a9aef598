"""A worker as the endpoint sees it: its state, the jobs it holds, and what it has been told to stop."""

from __future__ import annotations

import secrets
import string
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from emulator.clock.wakeup import Wakeup

if TYPE_CHECKING:
    from emulator.clock.timers import Timer
    from emulator.core.job import Job


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

    def takes_real_time(self, worker_id: str) -> bool:
        """Whether the worker's start and its jobs take real time that the clock is not told of."""

    def stop(self, worker_id: str) -> None:
        """End a worker that holds no job."""

    def park(self, worker_id: str) -> None:
        """A worker that is up gets no job before it is unparked: it may be held still (flashboot)."""

    def unpark(self, worker_id: str) -> None:
        """A parked worker is wanted again."""

    def crash(self, worker_id: str, reason: str) -> None:
        """Have the worker die as if by itself: the gateway is told as of any crash."""

    def kill(self, worker_id: str) -> bool:
        """End a worker that does not let go of a job; whatever it still does is without effect.

        True when that takes a while: the gateway is told by `ended` once it is over.
        """


class LoggedError(NamedTuple):
    """An error that the SDK in a worker has logged."""

    job_id: str | None
    text: str


class Worker:
    """One worker's record. Only `WorkerPool` and `Endpoint` change it."""

    __slots__ = (
        "by_batch", "complaint", "crashes", "dying", "external", "heard_of", "hung_up", "id", "idle_since_ms",
        "idle_timer", "jobs", "last_error", "last_job_id", "missing", "paused", "ping_timer", "polls",
        "reason", "replaces", "restart_timer", "retiring", "since_ms", "starting_ms", "state",
        "stop_called", "stop_signals", "stopping", "takes", "takes_beside", "unparked", "unseen",
    )  # fmt: skip

    def __init__(self, worker_id: str, now_ms: int, *, external: bool = False) -> None:
        self.id = worker_id
        #: It came by itself: nobody here can start, stop or kill it.
        self.external = external
        self.state = WorkerState.INITIALIZING
        #: Why it is in its state, for a person.
        self.reason = ""
        #: When it was first started, or came.
        self.since_ms = now_ms
        #: When its last start began.
        self.starting_ms = now_ms
        #: What it said was wrong with it before it ended (a failed fitness check).
        self.complaint = ""
        #: The jobs it holds.
        self.jobs: dict[str, Job] = {}
        #: The job it was given last.
        self.last_job_id: str | None = None
        #: The last error that the SDK in it has logged: why a result does not come, if none does.
        self.last_error = LoggedError(None, "")
        #: How often it has asked for a job.
        self.takes = 0
        #: Whether it has ever asked for one while it had another.
        self.takes_beside = False
        #: Whether it takes jobs by batch: the SDK in it then does not look whether they have an input.
        self.by_batch = False
        #: Jobs it was told to stop and has not let go of yet, with the deadline for each.
        self.stopping: dict[str, Timer] = {}
        #: Stop signals it has not fetched yet.
        self.stop_signals: list[str] = []
        self.stop_called = Wakeup()
        #: Held jobs that its last heartbeat did not name.
        self.missing: frozenset[str] = frozenset()
        #: Jobs that were its when its last heartbeat came: the next knows whether it is still at them.
        self.heard_of: frozenset[str] = frozenset()
        self.idle_since_ms = 0
        self.idle_timer: Timer | None = None
        #: Runs out when a worker that sends heartbeats goes silent.
        self.ping_timer: Timer | None = None
        self.restart_timer: Timer | None = None
        #: Long polls of its that are open now: while there is one, it is alive.
        self.polls = 0
        #: It went away from a poll and has not been heard of since, but for heartbeats.
        self.hung_up = False
        #: Why it goes away once it holds no job; empty while it stays.
        self.retiring = ""
        #: Why it is given nothing, though it may ask: what it does, for a person. Empty while it is.
        self.paused = ""
        #: It is being ended as if by itself, which may take a while.
        self.dying = False
        #: Jobs that are its by the books, and that it has never seen.
        self.unseen: set[str] = set()
        #: Crashes in a row.
        self.crashes = 0
        #: The workers with older code that go once this one is up.
        self.replaces: list[Worker] = []
        #: Wakes its take when it is parked no more.
        self.unparked = Wakeup()

    @property
    def busy(self) -> bool:
        """Whether it holds a job, be it one it should have let go of."""
        return bool(self.jobs or self.stopping)


def new_worker_id() -> str:
    """14 letters and digits, as production's."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(14))
