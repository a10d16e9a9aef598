"""The workers of one endpoint: started on demand, stopped when idle, restarted when they crash.

Workers that come by themselves (containers, other machines) are in it too, for as long as they report in.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from emulator.core.events import Notice, WorkerMoved
from emulator.core.idleness import Idleness
from emulator.core.interference import NO_INTERFERENCE
from emulator.core.queue_delay import QueueDelay
from emulator.core.scaling import Demand, ScalerType, wanted_workers
from emulator.core.starts import Starts
from emulator.core.worker import Worker, WorkerState, new_worker_id
from emulator.errors import WorkerGone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from emulator.clock.clock import Clock
    from emulator.core.config import EndpointConfig
    from emulator.core.events import Event, WorkerWrote
    from emulator.core.job import Job
    from emulator.core.queue import JobQueue
    from emulator.core.takers import Takers
    from emulator.core.worker import WorkerLauncher

log = logging.getLogger("emulator.core")

_ON_ITS_WAY = frozenset({WorkerState.INITIALIZING, WorkerState.THROTTLED})
_UP = frozenset({WorkerState.IDLE, WorkerState.RUNNING})
#: A crashed worker is started again after 1 s, then 2 s, 4 s … up to this.
RESTART_DELAY_MAX_MS = 60_000


class WorkerPool:
    """Keeps the number of workers that the queue asks for (wire.md 6) and knows the state of each."""

    def __init__(
        self,
        endpoint_id: str,
        config: EndpointConfig,
        clock: Clock,
        queue: JobQueue,
        takers: Takers,
        emit: Callable[[Event], None],
    ) -> None:
        self._endpoint_id = endpoint_id
        self._config = config
        self._clock = clock
        self._queue = queue
        self._takers = takers
        self._emit = emit
        self.interference = NO_INTERFERENCE
        #: Whether its workers can start.
        self.starts = Starts(endpoint_id)
        self._launcher: WorkerLauncher | None = None
        self._workers: dict[str, Worker] = {}
        #: Kept warm after their idle timeout (flashboot); to everyone else they are gone.
        self._parked: dict[str, Worker] = {}
        self._queue_delay = QueueDelay(config, clock, queue, self.adjust)
        self._idleness = Idleness(config, clock, self._on_idle)

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def open(self, launcher: WorkerLauncher | None) -> None:
        """Start the workers that are always up, and others when they are wanted."""
        self._launcher = launcher
        self.starts.begin()
        self.adjust()

    def close(self) -> list[Job]:
        """End all workers; returns the jobs they held."""
        self._queue_delay.stop()
        held = [job for worker in self for job in worker.jobs.values()]
        for worker in list(self):
            self.end(worker, "the endpoint is closing", kill=worker.busy)
        self._drop_parked()
        self._launcher = None
        return held

    def configure(self, config: EndpointConfig) -> None:
        """Go by other settings from now on: workers that are wanted start, those above the most there may be
        go as they come free.
        """
        self._config = config
        self._queue_delay.configure(config)
        self._idleness.configure(config, self)
        ours = [worker for worker in self if not worker.external and not worker.retiring]
        # Those without a job go first.
        for worker in sorted(ours, key=lambda each: not each.busy)[: max(0, len(ours) - config.workers_max)]:
            self.stop(worker, f"workersMax is {config.workers_max} now")
        self.adjust()

    def release_polls(self) -> None:
        """Answer the workers that wait, with nothing."""
        for worker in [*self, *self._parked.values()]:
            self._takers.release(worker)
            worker.unparked.notify()
            worker.stop_called.notify()

    def get(self, worker_id: str | None) -> Worker | None:
        """The worker, or None when it is unknown or gone."""
        return None if worker_id is None else self._workers.get(worker_id)

    def parked(self, worker_id: str) -> Worker | None:
        """The worker, if it is parked."""
        return self._parked.get(worker_id)

    def checked_in(self, worker_id: str) -> Worker:
        """The worker that asks for a job; its first question ends its cold start.

        :raises WorkerGone: it is unknown, or is to ask no more.
        """
        worker = self._workers.get(worker_id)
        if (
            worker is None
            or worker.retiring
            or (worker.state is WorkerState.UNHEALTHY and not worker.external)
        ):
            raise WorkerGone
        if worker.state in (WorkerState.INITIALIZING, WorkerState.UNHEALTHY):
            if not worker.external and self.starts.code_is_new:
                # While the new code had not been up, whoever was up ran the older one.
                worker.replaces = [each for each in self if each.state in _UP and not each.external]
            told = self.starts.came_up(external=worker.external)
            self._set_state(worker, WorkerState.IDLE, "ready")
            self._notice("info", told)
            self._idleness.watch(worker)
            self._relieve_replaced(worker)
        return worker

    def welcome(self, worker_id: str) -> Worker:
        """A worker that nobody here has started joins (wire.md 7)."""
        worker = Worker(worker_id, self._clock.now_ms(), external=True)
        self._add(worker, "came by itself")
        return worker

    @property
    def running(self) -> int:
        """How many workers hold a job."""
        return sum(worker.state is WorkerState.RUNNING for worker in self)

    @property
    def is_up(self) -> bool:
        """Whether a worker is up that could take a job, now or when it comes free."""
        return bool(self._parked) or any(worker.state in _UP and not worker.retiring for worker in self)

    def is_executing(self) -> bool:
        """Whether a worker starts or runs a job in real time, which the clock cannot see."""
        return any(self._executes(worker) for worker in self)

    def _executes(self, worker: Worker) -> bool:
        if worker.external:
            takes_real_time = True
        else:
            takes_real_time = self._launcher is not None and self._launcher.takes_real_time(worker.id)
        busy = worker.state is WorkerState.INITIALIZING or bool(worker.jobs.keys() - worker.unseen)
        return takes_real_time and busy

    def counts(self) -> dict[WorkerState, int]:
        """How many workers are in each state."""
        counted = Counter(worker.state for worker in self)
        return {state: counted[state] for state in WorkerState}

    # What its workers do

    def occupied(self, worker: Worker) -> None:
        """A worker has been given a job."""
        worker.state = WorkerState.RUNNING

    def freed(self, worker: Worker) -> None:
        """A worker has let go of a job."""
        if worker.busy:
            return
        if worker.retiring:
            self.end(worker, worker.retiring)
            self._tell_if_none_is_left()
            self.adjust()
            return
        worker.state = WorkerState.IDLE
        self._idleness.watch(worker)

    def retire(self, worker: Worker, reason: str) -> None:
        """A worker is to be given no more jobs; it goes once it holds none."""
        worker.retiring = reason
        self._takers.dismiss(worker)

    def stop(self, worker: Worker, reason: str) -> None:
        """A worker is to go: now, or once it holds no job."""
        self.retire(worker, reason)
        if not worker.busy:
            self.end(worker, reason)
            self.adjust()

    def pause(self, worker: Worker, reason: str) -> None:
        """Give a worker no more jobs, though it may ask; what it holds goes on."""
        worker.paused = reason
        self._takers.hold(worker)

    def resume(self, worker: Worker) -> None:
        """Give a worker a machine again, and jobs once they are dispatched (`JobLife.resume_worker`)."""
        if worker.state is WorkerState.THROTTLED:
            self._clock.cancel(worker.restart_timer)
            self._launch_late(worker)
        worker.paused = ""
        self._takers.unhold(worker)

    def throttle(self, worker: Worker, reason: str) -> Worker:
        """Take a worker's machine away; it must be ours, and hold no job. Another stands in its place,
        returned here, which gets a machine by `resume`.
        """
        self.end(worker, reason)
        throttled = Worker(new_worker_id(), self._clock.now_ms())
        self._add(throttled, "")
        self._set_state(throttled, WorkerState.THROTTLED, reason)
        return throttled

    def crashed(self, worker: Worker, reason: str) -> None:
        """A worker is dead: start it again after a delay that grows with each crash in a row.

        One that came by itself, or was to replace others with its newer code, is not started again.
        """
        if worker.complaint:
            reason, worker.complaint = f"{worker.complaint} ({reason})", ""
        if worker.external:
            self.remove(worker, reason, lost=True)
            return
        was_up = worker.state in _UP
        older_serves = any(
            self.get(each.id) is each and each.state in _UP and not each.retiring for each in worker.replaces
        )
        if worker.state is WorkerState.INITIALIZING:
            self._notice("warning", self.starts.failed(reason, older_serves=older_serves))
        if older_serves or self.starts.broken_code:
            why = "the older code goes on serving" if older_serves else "not started again with broken code"
            self.remove(worker, f"{why}: {reason}", lost=True)
            if was_up:
                self._tell_if_none_is_left()
            return
        worker.replaces = []
        delay_ms = min(1000 * 2**worker.crashes, RESTART_DELAY_MAX_MS)
        if worker.state is WorkerState.INITIALIZING:
            # A start takes real time, whatever the clock: it is tried once in a real second at most.
            delay_ms = max(delay_ms, round(1000 * self._clock.rate))
        worker.crashes += 1
        self._forget_work(worker)
        self._takers.dismiss(worker)
        before, worker.state = worker.state, WorkerState.UNHEALTHY
        self._tell(worker, before, worker.state, f"restarting in {delay_ms} ms: {reason}", lost=True)
        if was_up:
            self._tell_if_none_is_left()
        worker.restart_timer = self._clock.call_later(delay_ms, "worker restart", self._restart, worker)

    def end(self, worker: Worker, reason: str, *, kill: bool = False) -> None:
        """A worker is to go: `kill` when it does not let go of a job by itself."""
        self.remove(worker, reason)
        self._end_process(worker, kill=kill)

    def remove(self, worker: Worker, reason: str, *, lost: bool = False) -> None:
        """A worker is gone: `lost` when nobody here has ended it."""
        self._forget_work(worker)
        self._clock.cancel(worker.restart_timer)
        del self._workers[worker.id]
        self._takers.dismiss(worker)
        self._tell(worker, worker.state, None, reason, lost=lost)

    def kill(self, worker: Worker, reason: str) -> bool:
        """Have a worker ended that does not let go of a job; True when it is still there for a while."""
        self.retire(worker, reason)
        return self._end_process(worker, kill=True)

    def crash(self, worker: Worker, reason: str) -> bool:
        """Have a worker die as if by itself; False when that is not in our hands."""
        if self._launcher is None or worker.external:
            return False
        worker.paused = f"is about to die: {reason}"
        # One that is not up may have no process yet: it comes up as if nothing had been.
        worker.dying = worker.state in _UP
        self._launcher.crash(worker.id, reason)
        return True

    def complain(self, worker: Worker, complaint: str) -> None:
        """A worker says that it is unfit, and is about to end."""
        worker.complaint = complaint
        if worker.external and worker.state is WorkerState.IDLE:
            self._set_state(worker, WorkerState.UNHEALTHY, complaint)

    def swap(self) -> bool:
        """The handler's code is new: start a worker with it, if any is wanted. Once it is up, those with
        older code go as they come free; if it does not come up, they stay.

        Returns whether one is being started.
        """
        self.starts.code_changed()
        self._drop_parked()
        self._end_starting("the code has changed again")
        older = [worker for worker in self if not worker.external]
        if older and self._launcher is not None:
            self._start_one(replaces=older)
        else:
            self.adjust()
        return any(worker.state in _ON_ITS_WAY for worker in self)

    def hold(self, reason: str) -> None:
        """The handler's code is new and broken: start no worker before it changes again. Those that are up
        with older code go on.
        """
        self.starts.code_broke(reason)
        self._end_starting("its code is broken")

    def _end_starting(self, reason: str) -> None:
        """End the workers that are not up: what they would run is not the code as it is now."""
        for worker in list(self):
            if not worker.external and worker.state not in _UP:
                self.end(worker, reason, kill=True)

    def is_old_news(self, event: WorkerMoved | WorkerWrote) -> bool:
        """Whether it is about one more worker that does not start, after that has been told of another."""
        if not self.starts.failure:
            return False
        if isinstance(event, WorkerMoved):
            return event.before not in _UP and event.after not in _UP
        worker = self._workers.get(event.worker_id)
        return worker is not None and worker.state not in _UP

    def forget_parked(self, worker_id: str) -> None:
        """A parked worker has died."""
        if (worker := self._parked.pop(worker_id, None)) is not None:
            worker.unparked.notify()

    def start_later(self, worker: Worker, delay_ms: int, *, throttled: bool) -> None:
        """Start a worker after so long: it is slow to start, or (`throttled`) no machine is free for it."""
        if throttled:
            self._set_state(worker, WorkerState.THROTTLED, "ordered: no machine is free for it")
        worker.restart_timer = self._clock.call_later(delay_ms, "ordered start", self._launch_late, worker)

    # Scaling

    def job_came(self) -> None:
        """Another job is here. While a worker is up and an earlier job is timed, it changes nothing."""
        if not (self._queue_delay.watches and self._workers):
            self.adjust()

    def adjust(self) -> None:
        """Start the workers that are wanted now; arm a timer for when another may be."""
        if self._launcher is None or len(self._workers) >= self._config.workers_max:
            return
        if self.starts.broken_code and not self._parked:
            return
        config = self._config
        wanted = wanted_workers(
            self._demand(),
            scaler_type=config.scaler_type,
            scaler_value=config.scaler_value,
            workers_min=config.workers_min,
            workers_max=config.workers_max,
        )
        while len(self._workers) < wanted and (self._parked or not self.starts.broken_code):
            self._start_one()
        if config.scaler_type is ScalerType.QUEUE_DELAY:
            self._queue_delay.watch()

    def _demand(self) -> Demand:
        return Demand(
            queued=self._queue.scaling_length,
            in_progress=sum(not job.policy.low_priority for worker in self for job in worker.jobs.values()),
            overdue=self._queue_delay.overdue(),
            workers=len(self._workers),
            starting=sum(worker.state in _ON_ITS_WAY for worker in self),
        )

    def _start_one(self, replaces: Iterable[Worker] = ()) -> None:
        assert self._launcher is not None
        if self._parked:
            _, worker = self._parked.popitem()
            self._launcher.unpark(worker.id)
            self._add(worker, "it was parked")
            worker.unparked.notify()
            return
        worker = Worker(new_worker_id(), self._clock.now_ms())
        worker.replaces = list(replaces)
        self._add(worker, "to replace older code" if worker.replaces else "")
        self._launch(worker)

    def _relieve_replaced(self, worker: Worker) -> None:
        """A worker with newer code is up: the others need stay no longer than their jobs."""
        replaced, worker.replaces = worker.replaces, []
        for older in replaced:
            if self.get(older.id) is older:
                self.retire(older, "its code has changed")
                if not older.busy:
                    self.end(older, older.retiring)
        if replaced:
            self.adjust()

    def _park(self, worker: Worker) -> None:
        del self._workers[worker.id]
        self._parked[worker.id] = worker
        self._tell(worker, worker.state, None, "parked")
        self._takers.release(worker)
        assert self._launcher is not None
        self._launcher.park(worker.id)

    def _drop_parked(self) -> None:
        parked, self._parked = self._parked, {}
        for worker in parked.values():
            worker.unparked.notify()
            worker.stop_called.notify()
            self._end_process(worker, kill=False)

    def _end_process(self, worker: Worker, *, kill: bool) -> bool:
        if self._launcher is None or worker.external:
            return False
        if kill:
            return self._launcher.kill(worker.id)
        self._launcher.stop(worker.id)
        return False

    def _restart(self, worker: Worker) -> None:
        worker.restart_timer = None
        if self._launcher is not None and worker.id in self._workers:
            # What the new process writes is not about the old one's job.
            worker.last_job_id = None
            self._set_state(worker, WorkerState.INITIALIZING, "restarted")
            self._launch(worker)

    def _launch(self, worker: Worker) -> None:
        """Have a worker started, unless something keeps it from that for a while."""
        assert self._launcher is not None
        if not self.interference.delays_start(worker):
            self._begin_start(worker)

    def _begin_start(self, worker: Worker) -> None:
        assert self._launcher is not None
        try:
            self._launcher.start(worker.id)
        except Exception as error:
            # No thread or descriptor is left for it, say: whoever submits a job goes on.
            log.exception("worker %s cannot be started", worker.id)
            failed = (f"it cannot be started: {type(error).__name__}: {error}", worker)
            worker.restart_timer = self._clock.call_later(0, "failed start", self._on_not_started, failed)

    def _on_not_started(self, failed: tuple[str, Worker]) -> None:
        reason, worker = failed
        worker.restart_timer = None
        if self.get(worker.id) is worker:
            self.crashed(worker, reason)
            self.adjust()

    def _launch_late(self, worker: Worker) -> None:
        worker.restart_timer = None
        if self._launcher is None:
            return
        if worker.state is WorkerState.THROTTLED:
            self._set_state(worker, WorkerState.INITIALIZING, "a machine is free for it")
        self._begin_start(worker)

    def _on_idle(self, worker: Worker) -> None:
        # One that is dying is not idle, however long that takes: its crash is to be told, and counted.
        if worker.dying or len(self._workers) <= self._config.workers_min:
            return
        # With new code that has not been up yet, it is the older code that would be parked.
        if self._config.flashboot and not self.starts.code_is_new:
            self._park(worker)
        else:
            self.end(worker, f"idle for {self._config.idle_timeout_s:g} s")
            self._tell_if_none_is_left()
        # A worker that is slow to ask again may leave a job waiting.
        self.adjust()

    def _forget_work(self, worker: Worker) -> None:
        for timer in (worker.idle_timer, worker.ping_timer, *worker.stopping.values()):
            self._clock.cancel(timer)
        worker.idle_timer = worker.ping_timer = None
        worker.jobs.clear()
        worker.stopping.clear()
        worker.unseen.clear()
        worker.paused = ""
        worker.dying = False
        self.interference.forget(worker)
        worker.stop_signals.clear()
        worker.stop_called.notify()
        worker.missing = worker.heard_of = frozenset()

    def _tell_if_none_is_left(self) -> None:
        """The last worker with older code has gone, and none can start with the new."""
        if self.starts.obstacle and not self.is_up:
            self._notice("warning", f"no worker is left, jobs wait: {self.starts.obstacle}")

    def _notice(self, level: Any, message: str) -> None:
        if message:
            self._emit(Notice(self._endpoint_id, level, message, self._clock.now_ms()))

    def _add(self, worker: Worker, reason: str) -> None:
        self._workers[worker.id] = worker
        worker.state = WorkerState.INITIALIZING
        self._tell(worker, None, worker.state, reason)

    def _set_state(self, worker: Worker, state: WorkerState, reason: str) -> None:
        before, worker.state = worker.state, state
        self._tell(worker, before, state, reason)

    def _tell(
        self,
        worker: Worker,
        before: WorkerState | None,
        after: WorkerState | None,
        reason: str,
        *,
        lost: bool = False,
    ) -> None:
        worker.reason = reason
        now_ms = self._clock.now_ms()
        if after is WorkerState.INITIALIZING:
            worker.starting_ms = now_ms
        self._emit(WorkerMoved(self._endpoint_id, worker.id, before, after, reason, now_ms, lost))
