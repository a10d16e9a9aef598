"""An endpoint: the life of its jobs from submission to the end of their retention.

Every change of state is one synchronous call on the event loop: it happens as a whole or raises.
The worker's side of it is in `gateway`.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from emulator.core.advice import Advice
from emulator.core.events import JobMoved, Notice, WorkerWrote
from emulator.core.interference import NO_INTERFERENCE
from emulator.core.job import RETRYABLE, TERMINAL, Job, JobStatus
from emulator.core.job_ids import JobIds
from emulator.core.pool import WorkerPool
from emulator.core.queue import JobQueue
from emulator.core.request import JobRequest
from emulator.core.scaling import ScalerType
from emulator.core.store import JobStore, MemoryStore
from emulator.core.takers import Takers
from emulator.core.worker import WorkerState
from emulator.errors import JobNotFound, NotRetryable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from emulator.clock.clock import Clock
    from emulator.core.config import EndpointConfig
    from emulator.core.events import Event, WorkerLine
    from emulator.core.interference import Interference
    from emulator.core.result import JobResult
    from emulator.core.worker import Worker, WorkerLauncher

#: wire.md 4: chunks a single read of /stream hands out.
CHUNKS_PER_READ = 200
#: wire.md 3.
ERROR_EXECUTION_TIMEOUT = "executionTimeout exceeded"
ERROR_LOST_TWICE = "job timed out after 1 retries"
_TIMED_OUT_KEPT = 1_000
_DID_NOT_STOP = "it did not stop a job"


class Endpoint:
    """A queue, its jobs and its workers."""

    def __init__(
        self,
        endpoint_id: str,
        config: EndpointConfig,
        clock: Clock,
        emit: Callable[[Event], None],
        store: JobStore | None = None,
    ) -> None:
        self.id = endpoint_id
        self.config = config
        self.clock = clock
        self.default_policy = config.default_policy
        self.queue = JobQueue()
        self.takers = Takers(clock, self.hand_back)
        self.pool = WorkerPool(endpoint_id, config, clock, self.queue, self.takers, emit)
        #: Asked where something may interfere with what is to happen; see `interfere`.
        self.interference = NO_INTERFERENCE
        self._store: JobStore = MemoryStore() if store is None else store
        self._emit = emit
        self._ended: dict[JobStatus, int] = dict.fromkeys(TERMINAL, 0)
        self._retried = 0
        self._in_progress = 0
        #: The last that timed out: for those who look into the emulator, not for clients.
        self._timed_out: dict[str, Job] = {}
        self._job_ids = JobIds()
        self._advice = Advice()
        # One bound method for all jobs: a million queued ones hold it in their timers.
        self._ttl_callback = self._on_ttl

    def interfere(self, interference: Interference) -> None:
        """Have somebody asked where something may interfere with the life of jobs and workers."""
        self.interference = self.pool.interference = interference

    def open(self, launcher: WorkerLauncher | None) -> None:
        """Let workers start; without a launcher only those work here that come by themselves."""
        self.pool.open(launcher)

    def close(self) -> None:
        """End the workers and answer everyone who waits with the state their job is in."""
        self.pool.close()
        self.release_waiters()

    def reload(self) -> bool:
        """The handler's code has changed: have workers with the new code take over.

        Returns whether one is being started; without a worker and a job that waits there is no need yet.
        """
        return self.pool.swap()

    def hold(self, reason: str) -> None:
        """The handler's code has changed, and no worker can run it: start none before it is reloaded."""
        self.pool.hold(reason)

    def release_waiters(self) -> None:
        """Answer everyone who waits, be it for a job to end or to come."""
        self.pool.release_polls()
        for job in self._store.newest_first():
            if not job.terminal:
                job.wake_everyone()

    def reset(self, launcher: WorkerLauncher | None) -> dict[str, int]:
        """Forget all jobs, restart the workers, zero the counters; returns how many of each there were."""
        counts = {"jobs": len(self._store), "workers": len(self.pool)}
        self.pool.close()
        for job in list(self._store.newest_first()):
            if not job.terminal:
                # Whoever waits learns that the job is no more; nobody else hears of it.
                job.webhook = None
                self._end(job, JobStatus.CANCELLED)
            self._forget(job)
        self._ended = dict.fromkeys(TERMINAL, 0)
        self._retried = 0
        self._timed_out.clear()
        self.pool.open(launcher)
        return counts

    # What clients ask for

    def submit(self, request: JobRequest | Mapping[str, Any], *, sync: bool = False) -> Job:
        """Queue a job, or give it at once to a worker that waits for one.

        `request` may be the Python form of a request body, e.g. `{"input": {"prompt": "hi"}}`;
        `sync` is then whether it counts as submitted by /runsync.

        :raises MalformedRequest: no `input`, or values that JSON cannot express.
        :raises InvalidRequest: a field breaks a rule of wire.md 2.
        """
        if not isinstance(request, JobRequest):
            request = JobRequest.of(request, self.default_policy, sync=sync)
        now_ms = self.clock.now_ms()
        job = Job(self._job_ids.new(sync=request.sync), request, now_ms)
        self._store.add(job)
        job.ttl_timer = self.clock.call_at(now_ms + job.policy.ttl_ms, "ttl", self._ttl_callback, job)
        self._emit(JobMoved(self.id, job, None, now_ms))
        for warning in request.warnings:
            self.notice("warning", warning, job)
        if request.empty_input:
            self.notice(
                "warning",
                "the input is {}: production's worker never receives such a job, so it ends FAILED"
                f" '{ERROR_LOST_TWICE}'; send at least one key",
                job,
            )
        self._enqueue(job)
        return job

    def get(self, job_id: str) -> Job:
        """The job with this id.

        :raises JobNotFound: it is unknown or its result has expired.
        """
        job = self._store.get(job_id)
        if job is None:
            raise JobNotFound
        return job

    def look_up(self, job_id: str) -> Job:
        """The job with this id, be it one that timed out, which clients no longer find.

        :raises JobNotFound: it is unknown, or long gone.
        """
        return self._timed_out.get(job_id) or self.get(job_id)

    async def wait(self, job: Job, limit_ms: int | None) -> None:
        """Return when the job has ended, or after `limit_ms` (None: as long as it takes)."""
        if not job.terminal:
            with self.clock.waiting():
                await job.ended.wait(self.clock, limit_ms, "wait for a job")

    async def read_stream(self, job: Job, limit_ms: int) -> tuple[JobStatus, list[bytes]]:
        """Take the chunks that have come, waiting up to `limit_ms` for the first (wire.md 4).

        Each chunk (JSON text) is handed out once; the terminal status comes only with the last ones.
        """
        if not job.chunks and not job.terminal:
            with self.clock.waiting():
                await job.chunked.wait(self.clock, limit_ms, "wait for a chunk")
        if not job.chunks:
            return job.status, []
        chunks = [job.chunks.popleft() for _ in range(min(CHUNKS_PER_READ, len(job.chunks)))]
        return (JobStatus.IN_PROGRESS if job.terminal and job.chunks else job.status), chunks

    def cancel(self, job_id: str) -> Job:
        """Cancel a job, at once; one that has ended is left as it is (wire.md 4).

        :raises JobNotFound: it is unknown.
        """
        job = self.get(job_id)
        if not job.terminal:
            self._stop_worker_of(job)
            self._end(job, JobStatus.CANCELLED)
        return job

    def retry(self, job_id: str) -> Job:
        """Queue a FAILED or TIMED_OUT job again: same id, same input, its old result removed (wire.md 4).

        Its ttl still counts from its first submission.

        :raises JobNotFound: it is unknown.
        :raises NotRetryable: it is in another state, or its ttl has run out.
        """
        job = self.get(job_id)
        now_ms = self.clock.now_ms()
        if job.status not in RETRYABLE:
            raise NotRetryable(
                f"bad request: job is {job.status}: only a FAILED or TIMED_OUT job can be retried"
            )
        expires_ms = job.submitted_ms + job.policy.ttl_ms
        if expires_ms <= now_ms:
            raise NotRetryable("bad request: job has expired: its ttl has run out; submit it again")
        before = job.status
        self.clock.cancel(job.stage_timer)
        job.stage_timer = None
        job.move_to(JobStatus.IN_QUEUE)
        job.output_json = job.error = job.chunks = job.worker_id = None
        job.started_ms = job.ended_ms = job.delay_ms = job.execution_ms = None
        job.retries = 0
        job.queued_ms = now_ms
        job.ttl_timer = self.clock.call_at(expires_ms, "ttl", self._ttl_callback, job)
        self._ended[before] -= 1
        self._retried += 1
        self._emit(JobMoved(self.id, job, before, now_ms))
        self._enqueue(job)
        return job

    def purge_queue(self) -> int:
        """Cancel every queued job; running ones go on. Returns how many there were (wire.md 4)."""
        removed = self.queued_count
        for job in self.queued():
            self._end(job, JobStatus.CANCELLED)
        return removed

    @property
    def queued_count(self) -> int:
        """How many jobs are IN_QUEUE."""
        return len(self.queue) + len(self.interference.held_back())

    def queued(self) -> Iterator[Job]:
        """The jobs that are IN_QUEUE, in the order in which they would be served; any of them may end
        meanwhile.
        """
        yield from self.queue
        yield from list(self.interference.held_back())

    def health(self) -> dict[str, dict[str, int]]:
        """The body of /health (wire.md 4)."""
        workers = {state.value: count for state, count in self.pool.counts().items()}
        return {
            "jobs": {
                "completed": self._ended[JobStatus.COMPLETED],
                "failed": self._ended[JobStatus.FAILED] + self._ended[JobStatus.TIMED_OUT],
                "inProgress": self._in_progress,
                "inQueue": self.queued_count,
                "retried": self._retried,
            },
            "workers": dict(sorted({**workers, "ready": workers["idle"]}.items())),
        }

    def list_jobs(self, *, offset: int, limit: int, status: JobStatus | None = None) -> tuple[list[Job], int]:
        """Jobs, newest first: `limit` of them from `offset`, and how many there are in all."""
        if status is None:
            return list(islice(self._store.newest_first(), offset, offset + limit)), len(self._store)
        matching = [job for job in self._store.newest_first() if job.status is status]
        return matching[offset : offset + limit], len(matching)

    def notice(self, level: Any, message: str, job: Job | None = None, worker_id: str | None = None) -> None:
        """Tell a person something about a job or a worker."""
        job_id = None if job is None else job.id
        self._emit(Notice(self.id, level, message, self.clock.now_ms(), job_id, worker_id))

    def tell_output(self, worker_id: str, likely_job_id: str | None, lines: Iterable[WorkerLine]) -> None:
        """Tell of what a worker has written; `likely_job_id` is the job of what it printed by itself."""
        at_ms = self.clock.now_ms()
        for line in lines:
            job_id = likely_job_id if line.level is None else line.job_id
            self._emit(WorkerWrote(self.id, worker_id, job_id, line, at_ms))

    # What workers bring about; the gateway calls these

    def deliver(self, worker: Worker, limit: int) -> list[Job]:
        """Give a worker up to `limit` queued jobs."""
        jobs: list[Job] = []
        if not worker.paused:
            jobs += self.interference.gives_beside(worker)
        while len(jobs) < limit and (job := self.queue.pop()) is not None:
            self._begin(job, worker)
            if job.empty_input:
                # The worker never gets such a job (wire.md 2).
                self._expect_in_vain(job, "its input is {}, so the worker never received it")
            else:
                # Traces of an earlier delivery of the same job here must not end this one.
                self.let_go(worker, job.id)
                worker.missing -= {job.id}
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

    def finish(self, job: Job, worker: Worker, result: JobResult) -> None:
        """A worker brings the end of a job it holds."""
        del worker.jobs[job.id]
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
        self._end(job, status, output_json=result.output_json, error=result.error)
        self.pool.freed(worker)

    def add_chunk(self, job: Job, chunk: bytes) -> None:
        """A chunk (JSON text) for the job's stream."""
        if job.chunks is None:
            job.chunks = deque()
        job.chunks.append(chunk)
        job.wake_chunk_readers()

    def lose(self, job: Job, reason: str) -> None:
        """A job's worker is lost: queue it once more, the second time it has failed (wire.md 3)."""
        if job.retries:
            self.notice("warning", f"lost for the second time: {reason}", job, job.worker_id)
            self._end(job, JobStatus.FAILED, error=ERROR_LOST_TWICE)
            return
        job.retries += 1
        self._retried += 1
        self.notice("warning", f"requeued: {reason}", job, job.worker_id)
        self._requeue(job)
        self._enqueue(job)

    def requeue_blamelessly(self, job: Job) -> None:
        """A job lost its worker because of another job: queue it again without counting it."""
        self._requeue(job)
        self._enqueue(job)

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
        self.clock.cancel(timer)
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

    def _enqueue(self, job: Job) -> None:
        if not self.interference.holds_back(job):
            self.admit(job)

    def admit(self, job: Job) -> None:
        """A job joins the queue: give it to a worker that waits, or see to it that one comes."""
        self.queue.append(job)
        self._dispatch()
        waits = job.status is JobStatus.IN_QUEUE
        if waits or self.config.scaler_type is ScalerType.REQUEST_COUNT:
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

    def _begin(self, job: Job, worker: Worker) -> None:
        now_ms = self.clock.now_ms()
        job.move_to(JobStatus.IN_PROGRESS)
        job.worker_id = worker.id
        job.started_ms = now_ms
        job.delay_ms = now_ms - job.queued_ms
        job.stage_timer = self.clock.call_at(
            now_ms + job.policy.execution_timeout_ms, "executionTimeout", self._on_execution_timeout, job
        )
        self._in_progress += 1
        self._emit(JobMoved(self.id, job, JobStatus.IN_QUEUE, now_ms))

    def _expect_in_vain(self, job: Job, reason: str) -> None:
        """A job is in progress that no worker has: it is missed after a while."""
        self.clock.cancel(job.stage_timer)
        job.stage_timer = self.clock.call_later(
            self.config.heartbeat_timeout_ms, "lost job", self._on_missed, (reason, job)
        )

    def _requeue(self, job: Job) -> None:
        """From IN_PROGRESS back to IN_QUEUE; the caller puts it in the queue."""
        job.move_to(JobStatus.IN_QUEUE)
        now_ms = self.clock.now_ms()
        self.clock.cancel(job.stage_timer)
        job.stage_timer = job.started_ms = job.delay_ms = job.worker_id = job.output_json = None
        # What the lost attempt left unread would be read twice.
        job.chunks = None
        job.queued_ms = now_ms
        self._in_progress -= 1
        self._emit(JobMoved(self.id, job, JobStatus.IN_PROGRESS, now_ms))

    def _end(
        self, job: Job, status: JobStatus, *, output_json: bytes | None = None, error: str | None = None
    ) -> None:
        before, now_ms = job.status, self.clock.now_ms()
        job.move_to(status)
        if before is JobStatus.IN_QUEUE:
            if job in self.queue:
                self.queue.remove(job)
        else:
            self._in_progress -= 1
            assert job.started_ms is not None
            job.execution_ms = now_ms - job.started_ms
        job.ended_ms = now_ms
        job.output_json, job.error = output_json, error
        self.clock.cancel(job.ttl_timer)
        self.clock.cancel(job.stage_timer)
        job.ttl_timer = job.stage_timer = None
        self._ended[status] += 1
        if status is JobStatus.TIMED_OUT:
            # wire.md 3: those who wait are told, everyone else finds nothing.
            self._store.remove(job.id)
            self._timed_out[job.id] = job
            if len(self._timed_out) > _TIMED_OUT_KEPT:
                del self._timed_out[next(iter(self._timed_out))]
        else:
            retention_ms = self.config.sync_retention_ms if job.sync else self.config.retention_ms
            job.stage_timer = self.clock.call_at(now_ms + retention_ms, "retention", self._forget, job)
        self._emit(JobMoved(self.id, job, before, now_ms))
        job.wake_everyone()

    def _forget(self, job: Job) -> None:
        self.clock.cancel(job.stage_timer)
        job.stage_timer = None
        self._store.remove(job.id)

    def _on_ttl(self, job: Job) -> None:
        self._stop_worker_of(job)
        self._end(job, JobStatus.TIMED_OUT)

    def _on_execution_timeout(self, job: Job) -> None:
        self._stop_worker_of(job)
        self._end(job, JobStatus.FAILED, error=ERROR_EXECUTION_TIMEOUT)

    def _on_missed(self, missed: tuple[str, Job]) -> None:
        reason, job = missed
        self.lose(job, reason)

    def _stop_worker_of(self, job: Job) -> None:
        """Tell the worker that holds the job to stop it, and see to it that it does."""
        worker = self.pool.get(job.worker_id)
        if worker is None or worker.jobs.pop(job.id, None) is None:
            return
        worker.stopping[job.id] = self.clock.call_later(
            self.config.stop_grace_ms, "stop grace", self._on_stop_grace_over, (worker, job.id)
        )
        if self.interference.swallows_stop(job, worker):
            return
        worker.stop_signals.append(job.id)
        worker.stop_called.notify()

    def _on_stop_grace_over(self, holder: tuple[Worker, str]) -> None:
        worker, job_id = holder
        fault = f"did not let go of job {job_id} within {self.config.stop_grace_ms} ms of being told to stop"
        if worker.external:
            self.notice("warning", f"{fault}; it can only be ended where it was started", None, worker.id)
            return
        del worker.stopping[job_id]
        self.replace_worker(worker, fault)
