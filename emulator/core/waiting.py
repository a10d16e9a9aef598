"""Why a job waits: the one place that knows. It reads the state as it is, when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from emulator.clock.clock import subject_of
from emulator.core.config import WorkerKind
from emulator.core.job import JobStatus
from emulator.core.worker import WorkerState

if TYPE_CHECKING:
    from emulator.clock.clock import Clock
    from emulator.clock.timers import Timer
    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job
    from emulator.core.pool import WorkerPool
    from emulator.core.worker import Worker

#: Among so many timers, the next ones, that of a job is looked for.
_TIMERS_SEEN = 1_000


class Cause(Enum):
    """What a job waits for."""

    STALL = auto()
    """An order has it stall."""
    WORKERS_BUSY = auto()
    """All workers have jobs."""
    WORKERS_PAUSED = auto()
    """All workers are given nothing."""
    NEXT_TAKE = auto()
    """A worker is idle: it has not asked yet."""
    NO_WORKER_ALLOWED = auto()
    """`workersMax` is 0."""
    NO_EXTERNAL_WORKER = auto()
    """None has come, and none is started here."""
    START_FAILS = auto()
    """Workers do not start, or are not started as their code is broken."""
    COLD_START = auto()
    """A worker is starting."""
    THROTTLED = auto()
    """No machine is free for a worker, as was ordered."""
    RESTART = auto()
    """A worker has crashed and is started again."""
    LOW_PRIORITY = auto()
    """No worker is up, and the job must not start one."""
    NO_WORKER = auto()
    """None is up: the endpoint is opening or closing."""
    CLOCK = auto()
    """It has its worker, which waits for the clock, and that stands still."""


@dataclass(slots=True, frozen=True)
class Wait:
    """Why a job waits."""

    cause: Cause
    #: In a sentence, for a person.
    told: str
    #: It does not end by itself: somebody has to do something.
    endless: bool = False


def why_waiting(endpoint: Endpoint, job: Job) -> str:
    """Why a job waits, in a sentence; empty when it does not."""
    wait = wait_of(endpoint, job)
    return "" if wait is None else wait.told


def wait_of(endpoint: Endpoint, job: Job) -> Wait | None:
    """Why a job waits, for a worker or for time to move; None when it does not."""
    if job.status is JobStatus.IN_PROGRESS and endpoint.clock.stands_still:
        return _for_time(endpoint.clock, job)
    if job.status is not JobStatus.IN_QUEUE:
        return None
    if job in endpoint.life.interference.held_back():
        return _until(endpoint.clock, None, Cause.STALL, "it stalls in the queue, as was ordered (stall_ms)")
    if endpoint.pool.is_up:
        return _for_a_worker_that_is_up(endpoint)
    return _for_a_start(endpoint, job)


def why_not_ready(endpoint: Endpoint) -> str:
    """Why no job can run at an endpoint, in a sentence; empty when one can, as far as is known."""
    pool = endpoint.pool
    never_up = pool.starts.broken_code or not pool.starts.proven
    return pool.starts.obstacle if never_up and not pool.is_up else ""


def _for_a_worker_that_is_up(endpoint: Endpoint) -> Wait:
    up = [worker for worker in endpoint.pool if worker.state in (WorkerState.IDLE, WorkerState.RUNNING)]
    if up and all(worker.paused for worker in up):
        told = ", ".join(f"worker {worker.id} {worker.paused}" for worker in up)
        return Wait(Cause.WORKERS_PAUSED, told)
    idle = next((worker for worker in up if worker.state is WorkerState.IDLE and not worker.paused), None)
    if idle is not None or not up:
        told = f"worker {idle.id} is idle" if idle is not None else "a parked worker comes back"
        return Wait(Cause.NEXT_TAKE, f"{told}: it gets the job when it asks for its next one")
    told = f"worker {up[0].id}, the only one, is busy" if len(up) == 1 else f"all {len(up)} workers are busy"
    if obstacle := endpoint.pool.starts.obstacle:
        told += f"; {obstacle}"
    elif starting := _first(endpoint.pool, WorkerState.INITIALIZING):
        told += f"; {_cold_start(endpoint, starting)}"
    return _until(endpoint.clock, None, Cause.WORKERS_BUSY, told)


def _for_a_start(endpoint: Endpoint, job: Job) -> Wait:
    pool, config, clock = endpoint.pool, endpoint.config, endpoint.clock
    if pool.starts.obstacle:
        return Wait(Cause.START_FAILS, pool.starts.obstacle, endless=True)
    if starting := _first(pool, WorkerState.INITIALIZING):
        return _until(clock, starting.restart_timer, Cause.COLD_START, _cold_start(endpoint, starting))
    if throttled := _first(pool, WorkerState.THROTTLED):
        if throttled.restart_timer is None:
            told = f"worker {throttled.id} is throttled: {throttled.reason}"
            return Wait(Cause.THROTTLED, told, endless=True)
        told = f"worker {throttled.id} is throttled, as was ordered (throttled_ms)"
        return _until(clock, throttled.restart_timer, Cause.THROTTLED, told)
    if crashed := _first(pool, WorkerState.UNHEALTHY):
        told = f"worker {crashed.id} is unhealthy: {crashed.reason}"
        return _until(clock, crashed.restart_timer, Cause.RESTART, told)
    if leaving := _first(pool, WorkerState.RUNNING):
        told = f"worker {leaving.id} is busy, and goes then: {leaving.retiring}"
        return _until(clock, None, Cause.WORKERS_BUSY, told)
    if config.worker_kind is WorkerKind.EXTERNAL:
        came = "is left" if pool.starts.proven else "has come"
        return Wait(Cause.NO_EXTERNAL_WORKER, f"no external worker {came}", endless=True)
    if config.workers_max == 0:
        return Wait(Cause.NO_WORKER_ALLOWED, "workersMax is 0: no worker is started", endless=True)
    if job.policy.low_priority:
        told = (
            "the job is lowPriority, which never starts a worker; it runs when one is up for another job"
            " (or set workersMin to 1)"
        )
        return Wait(Cause.LOW_PRIORITY, told, endless=True)
    return Wait(Cause.NO_WORKER, "no worker is up")


def _for_time(clock: Clock, job: Job) -> Wait:
    about_it = (timer for timer in clock.pending(_TIMERS_SEEN) if subject_of(timer.argument) == job.id)
    return Wait(Cause.CLOCK, _frozen(clock, next(about_it, None) or clock.next_timer()), endless=True)


def _first(pool: WorkerPool, state: WorkerState) -> Worker | None:
    return next((worker for worker in pool if worker.state is state), None)


def _cold_start(endpoint: Endpoint, worker: Worker) -> str:
    since_s = (endpoint.clock.now_ms() - worker.starting_ms) / 1000
    return f"worker {worker.id} has been starting for {since_s:.1f} s and has not asked for a job yet"


def _until(clock: Clock, timer: Timer | None, cause: Cause, told: str) -> Wait:
    """A wait that time ends: on a clock that stands still it does not end by itself."""
    if not clock.stands_still:
        return Wait(cause, told)
    return Wait(cause, f"{told}; {_frozen(clock, timer or clock.next_timer())}", endless=True)


def _frozen(clock: Clock, due: Timer | None) -> str:
    if due is None:
        return "the clock is frozen, and nothing is due"
    return f"the clock is frozen, and {due.kind!r} is due in {due.when_ms - clock.now_ms()} ms: advance it"
