"""The life of an endpoint's jobs: its steps, and what workers bring about.

Every change of state is one synchronous call on the event loop: it happens as a whole or raises.
What clients ask for is in `endpoint`, the workers' door in `gateway`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from emulator.core.advice import Advice
from emulator.core.events import JobForgotten, JobMoved, JobOutput, Notice, WorkerWrote
from emulator.core.interference import NO_INTERFERENCE
from emulator.core.job import TERMINAL, Job, JobStatus
from emulator.core.job_error import init_failure
from emulator.core.late_pieces import LatePieces
from emulator.core.pool import WorkerPool
from emulator.core.queue import JobQueue
from emulator.core.result import ResultLimit
from emulator.core.scaling import ScalerType
from emulator.core.takers import Takers
from emulator.core.worker import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from emulator.clock.clock import Clock
    from emulator.core.config import EndpointConfig
    from emulator.core.events import Change, WorkerLine
    from emulator.core.result import JobResult
    from emulator.core.store import JobStore
    from emulator.core.worker import Worker

#: wire.md 3.
ERROR_EXECUTION_TIMEOUT = "executionTimeout exceeded"
ERROR_LOST_TWICE = "job timed out after 1 retries"
_TIMED_OUT_KEPT = 1_000
_DID_NOT_STOP = "it did not stop a job"


class JobLife:
    """What becomes of an endpoint's jobs, from the queue to the end of their retention."""

    def __init__(
        self,
        endpoint_id: str,
        config: EndpointConfig,
        clock: Clock,
        emit: Callable[[Change], None],
        store: JobStore,
    ) -> None:
        self._endpoint_id = endpoint_id
        self._config = config
        self._clock = clock
        self._emit = emit
        self._store = store
        self._result_limits = _result_limits(config)
        self._advice = Advice()
        self.queue = JobQueue()
        self.takers = Takers(clock, self.hand_back)
        self.pool = WorkerPool(endpoint_id, config, clock, self.queue, self.takers, emit)
        self.late_pieces = LatePieces()
        #: Asked where something may interfere with what is to happen.
        self.interference = NO_INTERFERENCE
        #: How many have ended in each state, been queued again, and are with a worker.
        self.ended: dict[JobStatus, int] = dict.fromkeys(TERMINAL, 0)
        self.retried = 0
        self.in_progress = 0
        #: The last that timed out: for those who look into the emulator, not for clients.
        self.timed_out: dict[str, Job] = {}
        # One bound method for all jobs: a million of them hold it in their timers.
        self._ttl_callback = self._on_ttl
        self._forget_callback = self.forget

    def configure(self, config: EndpointConfig) -> None:
        """Go by other settings from now on."""
        self._config = config
        self._result_limits = _result_limits(config)
        self.pool.configure(config)

    def forget_counts(self) -> None:
        """Start counting anew."""
        self.ended = dict.fromkeys(TERMINAL, 0)
        self.retried = 0
        self.timed_out.clear()

    def notice(self, level: Any, message: str, job: Job | None = None, worker_id: str | None = None) -> None:
        """Tell a person something about a job or a worker."""
        job_id = None if job is None else job.id
        self._emit(Notice(self._endpoint_id, level, message, self._clock.now_ms(), job_id, worker_id))

    def advise(self, message: str, job: Job, worker_id: str | None = None) -> None:
        """Tell a person something that holds for all jobs alike: once."""
        if self._advice.is_new(message):
            self.notice("warning", message, job, worker_id)

    def tell_output(self, worker_id: str, likely_job_id: str | None, lines: Iterable[WorkerLine]) -> None:
        """Tell of what a worker has written; `likely_job_id` is the job of what it printed by itself."""
        at_ms = self._clock.now_ms()
        for line in lines:
            job_id = likely_job_id if line.level is None else line.job_id
            self._emit(WorkerWrote(self._endpoint_id, worker_id, job_id, line, at_ms))

    # What workers bring about

    def deliver(self, worker: Worker, limit: int) -> list[Job]:
        """Give a worker up to `limit` queued jobs."""
        jobs: list[Job] = []
        if not worker.paused:
            jobs += self.interference.gives_beside(worker)
        while len(jobs) < limit and (job := self.queue.pop()) is not None:
            self._start(job, worker)
            if job.empty_input and not worker.by_batch:
                # The SDK in the worker drops such a job (wire.md 2).
                self._expect_in_vain(job, "its input is empty, so the worker never received it")
            else:
                # Traces of an earlier delivery of the same job here must not end this one.
                self.let_go(worker, job.id)
                worker.missing -= {job.id}
                worker.heard_of -= {job.id}
                worker.unseen.discard(job.id)
                worker.jobs[job.id] = job
                worker.last_job_id = job.id
                if self.interference.delivers(job, worker):
                    jobs.append(job)
                elif job.id in worker.jobs:
                    worker.unseen.add(job.id)
                if worker.paused:
                    break
        if jobs or worker.jobs:
            self.pool.occupied(worker)
            if self.queue.scaling_length and any(job.policy.low_priority for job in jobs):
                # The worker was started for another job, which still waits.
                self.pool.adjust()
        return jobs

    def miss(self, job: Job, worker: Worker, reason: str) -> None:
        """No result of a job will come: its worker is free, and the job is missed after a while."""
        del worker.jobs[job.id]
        self._expect_in_vain(job, reason)
        self.pool.freed(worker)

    def crash_worker(self, worker: Worker, reason: str) -> None:
        """Have a worker die, with all it holds."""
        if not self.pool.crash(worker, reason):
            self.lose_worker(worker, reason)

    def resume_worker(self, worker: Worker) -> None:
        """Give a worker jobs again that was paused, or a machine that was throttled."""
        self.pool.resume(worker)
        self._dispatch()

    def finish(self, job: Job, worker: Worker, result: JobResult) -> None:
        """A worker brings the end of a job it holds."""
        result = result.within(self.result_limit(job))
        del worker.jobs[job.id]
        if failure := init_failure(result.error):
            # It is about to end: its next job would be lost with it.
            self.pool.pause(worker, failure)
        else:
            worker.crashes = 0
        if result.stop_worker and not worker.external:
            self.pool.retire(worker, "it asked to be replaced")
        elif result.stop_worker:
            self.notice(
                "warning",
                "it asked to be replaced (refresh_worker): that is up to whoever started it; it goes on",
                worker_id=worker.id,
            )
        if result.warning:
            self.notice("warning", result.warning, job, worker.id)
        if result.error is not None and (advice := self._advice.on(result.error)):
            self.notice("warning", advice, job, worker.id)
        status = JobStatus.COMPLETED if result.error is None else JobStatus.FAILED
        self.end(job, status, output_json=result.output_json, error=result.error)
        self.pool.freed(worker)
        if failure:
            # Waiting for its exit, which may take 10 s, it would be taken for one that is idle.
            self.pool.crash(worker, failure)

    def result_limit(self, job: Job) -> ResultLimit:
        """How large the job's result may be, and each of its chunks."""
        return self._result_limits[job.sync]

    def add_chunk(self, job: Job, chunk: bytes) -> None:
        """A chunk (JSON text) for the job's stream."""
        if job.chunks is None:
            job.chunks = deque()
        job.chunks.append(chunk)
        self._emit(JobOutput(self._endpoint_id, job.id, job.worker_id, "chunk", chunk, self._clock.now_ms()))
        job.wake_chunk_readers()

    def show_progress(self, job: Job, progress: bytes) -> None:
        """What /status shows as output (JSON text) until the job ends."""
        job.output_json = progress
        self._emit(
            JobOutput(self._endpoint_id, job.id, job.worker_id, "progress", progress, self._clock.now_ms())
        )

    def lose(self, job: Job, reason: str) -> None:
        """A job's worker is lost: queue it once more, the second time it has failed (wire.md 3)."""
        if job.retries:
            self.notice("warning", f"lost for the second time: {reason}", job, job.worker_id)
            self.end(job, JobStatus.FAILED, error=ERROR_LOST_TWICE)
            return
        job.retries += 1
        self.retried += 1
        self.notice("warning", f"requeued: {reason}", job, job.worker_id)
        self._requeue(job)
        self.enqueue(job)

    def requeue_blamelessly(self, job: Job) -> None:
        """A job lost its worker because of another job: queue it again without counting it."""
        self._requeue(job)
        self.enqueue(job)

    def hand_back(self, jobs: Iterable[Job]) -> None:
        """A worker was given jobs and has not begun with them: back to the front of the queue, in order."""
        for job in reversed(list(jobs)):
            worker = self.pool.get(job.worker_id)
            if worker is None or worker.jobs.pop(job.id, None) is None:
                continue
            queued_ms = job.queued_ms
            self._requeue(job)
            job.queued_ms = queued_ms
            self.queue.prepend(job)
            self.pool.freed(worker)
        self._dispatch()
        self.pool.adjust()

    def lose_worker(self, worker: Worker, reason: str) -> None:
        """A worker died or went silent: its jobs are lost, and it is started again after a while."""
        if worker.state is WorkerState.UNHEALTHY and not worker.external:
            return
        jobs = list(worker.jobs.values())
        self.pool.crashed(worker, reason)
        for job in jobs:
            self.lose(job, reason)
        self.pool.adjust()

    def let_go(self, worker: Worker, job_id: str) -> bool:
        """A worker no longer works on a job it was told to stop; False when it was not told."""
        timer = worker.stopping.pop(job_id, None)
        if timer is None:
            return False
        self._clock.cancel(timer)
        if job_id in worker.stop_signals:
            worker.stop_signals.remove(job_id)
        return True

    def replace_worker(self, worker: Worker, reason: str) -> None:
        """A worker does not let go of a job it was told to stop: end it. Its other jobs are requeued."""
        self.notice("warning", reason, None, worker.id)
        dies_slowly = worker.retiring == _DID_NOT_STOP or self.pool.kill(worker, _DID_NOT_STOP)
        # Its other jobs run on until it is dead: nobody else may begin with them before that.
        if not (dies_slowly and worker.jobs):
            self.worker_ended(worker, _DID_NOT_STOP)

    def worker_ended(self, worker: Worker, reason: str) -> None:
        """A worker is gone through no fault of the jobs it has left: they are requeued."""
        jobs = list(worker.jobs.values())
        self.pool.remove(worker, reason)
        for job in jobs:
            self.requeue_blamelessly(job)
        self.pool.adjust()

    # The steps of a job's life

    def begin(self, job: Job) -> None:
        """A job is new; the caller puts it in the queue."""
        self._store.add(job)
        job.ttl_timer = self._clock.call_at(job.expires_ms, "ttl", self._ttl_callback, job)
        self._emit(JobMoved(self._endpoint_id, job, None, job.submitted_ms))

    def begin_again(self, job: Job) -> None:
        """A job that has ended runs once more: its result is removed, its ttl goes on."""
        before, now_ms = job.status, self._clock.now_ms()
        job.move_to(JobStatus.IN_QUEUE)
        self._clock.cancel(job.stage_timer)
        job.stage_timer = None
        job.output_json = job.error = job.chunks = job.worker_id = None
        job.started_ms = job.ended_ms = job.delay_ms = job.execution_ms = None
        job.retries = 0
        job.queued_ms = now_ms
        job.ttl_timer = self._clock.call_at(job.expires_ms, "ttl", self._ttl_callback, job)
        self.ended[before] -= 1
        self.retried += 1
        self._emit(JobMoved(self._endpoint_id, job, before, now_ms))
        self.enqueue(job)

    def enqueue(self, job: Job) -> None:
        """A job is to wait for a worker, unless something keeps it from the queue."""
        if not self.interference.holds_back(job):
            self.admit(job)

    def admit(self, job: Job) -> None:
        """A job joins the queue: give it to a worker that waits, or see to it that one comes."""
        self.queue.append(job)
        self._dispatch()
        waits = job.status is JobStatus.IN_QUEUE
        if waits or self._config.scaler_type is ScalerType.REQUEST_COUNT:
            self.pool.job_came()
        if waits and job.policy.low_priority and not len(self.pool):
            self.notice(
                "info",
                "waiting: the job is lowPriority, which never starts a worker; it runs when one is up"
                " for another job (or set workersMin to 1)",
                job,
            )

    def _dispatch(self) -> None:
        """Give queued jobs to the workers that wait."""
        while len(self.queue) and len(self.takers):
            taker = self.takers.pop()
            if taker.future.done():
                continue
            if jobs := self.deliver(taker.worker, taker.limit):
                taker.future.set_result(jobs)
            elif taker.worker.paused:
                self.takers.pause(taker)
            else:
                self.takers.put_back(taker)

    def _start(self, job: Job, worker: Worker) -> None:
        now_ms = self._clock.now_ms()
        job.move_to(JobStatus.IN_PROGRESS)
        job.worker_id = worker.id
        job.started_ms = now_ms
        job.delay_ms = now_ms - job.queued_ms
        job.stage_timer = self._clock.call_at(
            now_ms + job.policy.execution_timeout_ms, "executionTimeout", self._on_execution_timeout, job
        )
        self.in_progress += 1
        self._emit(JobMoved(self._endpoint_id, job, JobStatus.IN_QUEUE, now_ms))

    def _expect_in_vain(self, job: Job, reason: str) -> None:
        """A job is in progress that no worker has: it is missed after a while."""
        self._clock.cancel(job.stage_timer)
        job.stage_timer = self._clock.call_later(
            self._config.heartbeat_timeout_ms, "lost job", self._on_missed, (reason, job)
        )

    def _requeue(self, job: Job) -> None:
        """From IN_PROGRESS back to IN_QUEUE; the caller puts it in the queue."""
        job.move_to(JobStatus.IN_QUEUE)
        now_ms = self._clock.now_ms()
        self._clock.cancel(job.stage_timer)
        job.stage_timer = job.started_ms = job.delay_ms = job.worker_id = job.output_json = None
        # What the lost attempt left unread would be read twice.
        job.chunks = None
        job.queued_ms = now_ms
        self.in_progress -= 1
        self._emit(JobMoved(self._endpoint_id, job, JobStatus.IN_PROGRESS, now_ms))

    def end(
        self, job: Job, status: JobStatus, *, output_json: bytes | None = None, error: str | None = None
    ) -> None:
        """A job ends: whoever waits is woken, and its retention begins."""
        before, now_ms = job.status, self._clock.now_ms()
        job.move_to(status)
        if before is JobStatus.IN_QUEUE:
            if job in self.queue:
                self.queue.remove(job)
        else:
            self.in_progress -= 1
            assert job.started_ms is not None
            job.execution_ms = now_ms - job.started_ms
        job.ended_ms = now_ms
        job.output_json, job.error = output_json, error
        self._clock.cancel(job.ttl_timer)
        self._clock.cancel(job.stage_timer)
        job.ttl_timer = job.stage_timer = None
        self.ended[status] += 1
        if status is JobStatus.TIMED_OUT:
            # wire.md 3: those who wait are told, everyone else finds nothing.
            self._store.remove(job.id)
            self.timed_out[job.id] = job
            if len(self.timed_out) > _TIMED_OUT_KEPT:
                del self.timed_out[next(iter(self.timed_out))]
        else:
            retention_ms = self._config.sync_retention_ms if job.sync else self._config.retention_ms
            job.stage_timer = self._clock.call_at(
                now_ms + retention_ms, "retention", self._forget_callback, job
            )
        self._emit(JobMoved(self._endpoint_id, job, before, now_ms))
        job.wake_everyone()

    def forget(self, job: Job) -> None:
        """A job's retention is over."""
        self._clock.cancel(job.stage_timer)
        job.stage_timer = None
        self._store.remove(job.id)
        self._emit(JobForgotten(self._endpoint_id, job))

    def take_back(self, job: Job) -> None:
        """A job of an earlier process is here again, in the state that it was in: its deadlines go on.

        Nobody hears of it, as nothing has happened to it; the caller puts it where it belongs.
        """
        self._store.add(job)
        if job.terminal:
            retention_ms = self._config.sync_retention_ms if job.sync else self._config.retention_ms
            due_ms = (job.ended_ms or 0) + retention_ms
            job.stage_timer = self._clock.call_at(due_ms, "retention", self._forget_callback, job)
            return
        job.ttl_timer = self._clock.call_at(job.expires_ms, "ttl", self._ttl_callback, job)
        if job.status is JobStatus.IN_PROGRESS:
            self.in_progress += 1
            # One with an empty input is missed, not late: no worker had it but one that takes by batch.
            if not job.empty_input:
                due_ms = (job.started_ms or 0) + job.policy.execution_timeout_ms
                job.stage_timer = self._clock.call_at(
                    due_ms, "executionTimeout", self._on_execution_timeout, job
                )

    def go_on(self) -> None:
        """Jobs have come back while workers are there: give them out, and start more if they are wanted."""
        self._dispatch()
        self.pool.adjust()

    def retract(self, job: Job) -> None:
        """A job that has come cannot be kept: it is as if it had not. Whoever waits for it is woken."""
        job.webhook = None
        if not job.terminal:
            self.stop_worker_of(job)
            self.end(job, JobStatus.CANCELLED)
        self.ended[job.status] -= 1
        self.timed_out.pop(job.id, None)
        self.forget(job)

    def _on_ttl(self, job: Job) -> None:
        self.stop_worker_of(job)
        self.end(job, JobStatus.TIMED_OUT)

    def _on_execution_timeout(self, job: Job) -> None:
        self.stop_worker_of(job)
        self.end(job, JobStatus.FAILED, error=ERROR_EXECUTION_TIMEOUT)

    def _on_missed(self, missed: tuple[str, Job]) -> None:
        reason, job = missed
        self.lose(job, reason)

    def stop_worker_of(self, job: Job) -> None:
        """Tell the worker that holds the job to stop it, and see to it that it does."""
        worker = self.pool.get(job.worker_id)
        if worker is None or worker.jobs.pop(job.id, None) is None:
            return
        worker.stopping[job.id] = self._clock.call_later(
            self._config.stop_grace_ms, "stop grace", self._on_stop_grace_over, (worker, job.id)
        )
        if self.interference.swallows_stop(job, worker):
            return
        worker.stop_signals.append(job.id)
        worker.stop_called.notify()

    def _on_stop_grace_over(self, holder: tuple[Worker, str]) -> None:
        worker, job_id = holder
        fault = f"did not let go of job {job_id} within {self._config.stop_grace_ms} ms of being told to stop"
        if worker.external:
            self.notice("warning", f"{fault}; it can only be ended where it was started", None, worker.id)
            return
        del worker.stopping[job_id]
        self.replace_worker(worker, fault)


def _result_limits(config: EndpointConfig) -> tuple[ResultLimit, ResultLimit]:
    """Of jobs of /run, and of those of /runsync."""
    of_run, of_runsync = (ResultLimit.of(config.result_limit_mib, sync=sync) for sync in (False, True))
    return of_run, of_runsync
