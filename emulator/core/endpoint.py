"""An endpoint, as its clients and its owner see it: what they ask of its jobs, workers and counters.

What becomes of a job is in `job_life`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

from emulator.clock.slices import in_slices
from emulator.core.comeback import come_back
from emulator.core.events import ChunksRead, unfailing
from emulator.core.job import RETRYABLE, Job, JobStatus
from emulator.core.job_ids import JobIds
from emulator.core.job_life import ERROR_LOST_TWICE, JobLife
from emulator.core.request import JobRequest
from emulator.core.store import JobStore, MemoryStore
from emulator.errors import JobNotFound, NotRetryable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from emulator.clock.clock import Clock
    from emulator.core.comeback import Kept
    from emulator.core.config import EndpointConfig
    from emulator.core.events import Change
    from emulator.core.interference import Interference
    from emulator.core.worker import WorkerLauncher

#: wire.md 4: chunks a single read of /stream hands out.
CHUNKS_PER_READ = 200


class Endpoint:
    """A queue, its jobs and its workers."""

    def __init__(
        self,
        endpoint_id: str,
        config: EndpointConfig,
        clock: Clock,
        emit: Callable[[Endpoint, Change], None],
        store: JobStore | None = None,
    ) -> None:
        self.id = endpoint_id
        self.config = config
        self.clock = clock
        self.default_policy = config.default_policy
        self._store: JobStore = MemoryStore() if store is None else store
        self._job_ids = JobIds()
        self._emit = unfailing(partial(emit, self))
        self.life = JobLife(endpoint_id, config, clock, self._emit, self._store)
        self.queue = self.life.queue
        self.takers = self.life.takers
        self.pool = self.life.pool

    def interfere(self, interference: Interference) -> None:
        """Have somebody asked where something may interfere with the life of jobs and workers."""
        self.life.interference = self.pool.interference = interference

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

    def configure(self, **changes: Any) -> None:
        """Change settings (`EndpointConfig`) while it runs: for jobs that come, and for all workers.

        :raises ConfigError: a value is out of bounds; nothing has changed.
        """
        self.config = replace(self.config, **changes)
        self.default_policy = self.config.default_policy
        self.life.configure(self.config)

    def resume(self, jobs: Iterable[Kept], ended: Mapping[JobStatus, int], retried: int) -> list[Job]:
        """Go on with the jobs of an earlier process, in order of their submission, and with its counters.

        Returns those whose workers went with that process: they are in progress, and nobody has them.
        """
        for status, count in ended.items():
            self.life.ended[status] += count
        self.life.retried += retried
        return come_back(self.life, jobs)

    def release_waiters(self) -> None:
        """Answer everyone who waits, be it for a job to end or to come."""
        self.pool.release_polls()
        for job in self._store.newest_first():
            if not job.terminal:
                job.wake_everyone()

    def reset(self, launcher: WorkerLauncher | None) -> dict[str, int]:
        """Forget all jobs, restart the workers, zero the counters; returns how many of each there were."""
        workers = len(self.pool)
        return {"jobs": sum(1 for _ in self.resetting(launcher)), "workers": workers}

    def resetting(self, launcher: WorkerLauncher | None) -> Iterator[None]:
        """As `reset`, a job with each step. Nobody finds any of them from the first step on; those that come
        meanwhile stay, and wait for the last.
        """
        self.pool.close()
        jobs = self._store.take_all()
        while jobs:
            _, job = jobs.popitem()
            if not job.terminal:
                # Whoever waits learns that the job is no more; nobody else hears of it.
                job.webhook = None
                self.life.end(job, JobStatus.CANCELLED)
            self.life.forget(job)
            # It goes with its turn: to let go of a million at once takes long.
            del job
            yield
        self.life.forget_counts()
        for job in self._store.newest_first():
            if job.terminal:
                self.life.ended[job.status] += 1
        self.pool.open(launcher)

    # What clients ask for

    def submit(self, request: JobRequest | Mapping[str, Any], *, sync: bool = False) -> Job:
        """Queue a job, or give it at once to a worker that waits for one.

        `request` may be the Python form of a request body, e.g. `{"input": {"prompt": "hi"}}`;
        `sync` is then whether it counts as submitted by /runsync.

        :raises MalformedRequest: no `input`, or values that JSON cannot express.
        :raises InvalidRequest: a field breaks a rule of wire.md 2.
        """
        if not isinstance(request, JobRequest):
            request = JobRequest.of(
                request, self.default_policy, sync=sync, missing_input=self.config.missing_input
            )
        job = Job(self._job_ids.new(sync=request.sync), request, self.clock.now_ms())
        self.life.begin(job)
        for warning in request.warnings:
            self.life.notice("warning", warning, job)
        for hint in request.hints:
            self.life.advise(hint, job)
        if request.empty_input:
            self.life.notice(
                "warning",
                f"the input is {'missing or null' if job.input is None else '{}'}: as in production, the"
                " SDK in a worker drops such a job, so it ends FAILED"
                f" '{ERROR_LOST_TWICE}'; where a worker takes several at a time, its handler gets a job"
                " without 'input'. Send at least one key",
                job,
            )
        self.life.enqueue(job)
        return job

    def run_again(self, job: Job, body: bytes | None = None) -> Job:
        """Submit a job's request once more, or another (`body`, as the client of /run sends it) in its place.

        :raises MalformedRequest: the body is no JSON object, or has no `input`.
        :raises InvalidRequest: a field breaks a rule of wire.md 2.
        """
        request = JobRequest.parse(
            job.body if body is None else body,
            self.default_policy,
            sync=job.sync,
            again_of=job.id,
            missing_input=self.config.missing_input,
        )
        return self.submit(request)

    def get(self, job_id: str) -> Job:
        """The job with this id.

        :raises JobNotFound: it is unknown or its result has expired.
        """
        job = self._store.get(job_id)
        if job is None:
            raise JobNotFound
        return job

    def find(self, job_id: str) -> Job | None:
        """The job with this id; None when it is unknown or its result has expired."""
        return self._store.get(job_id)

    def look_up(self, job_id: str) -> Job:
        """The job with this id, be it one that timed out, which clients no longer find.

        :raises JobNotFound: it is unknown, or long gone.
        """
        return self.life.timed_out.get(job_id) or self.get(job_id)

    async def wait(self, job: Job, limit_ms: int | None) -> bool:
        """Return when the job has ended, or after `limit_ms` (None: as long as it takes).

        A wait with a limit ends sooner when it is in vain, as the clock is frozen and nothing is executed:
        False then.
        """
        if job.terminal:
            return True
        with self.clock.waiting() as waiting:
            given_up = None if limit_ms is None else waiting
            await job.ended.wait(self.clock, limit_ms, "wait for a job", given_up)
        return not waiting.in_vain

    async def read_stream(self, job: Job, limit_ms: int) -> tuple[JobStatus, list[bytes]]:
        """Take the chunks that have come, waiting up to `limit_ms` for the first (wire.md 4), and
        less where that is in vain (see `wait`).

        Each chunk (JSON text) is handed out once; the terminal status comes only with the last ones.
        """
        if not job.chunks and not job.terminal:
            with self.clock.waiting() as waiting:
                await job.chunked.wait(self.clock, limit_ms, "wait for a chunk", waiting)
        if not job.chunks:
            return job.status, []
        chunks = [job.chunks.popleft() for _ in range(min(CHUNKS_PER_READ, len(job.chunks)))]
        self._emit(ChunksRead(self.id, job, len(chunks)))
        return (JobStatus.IN_PROGRESS if job.terminal and job.chunks else job.status), chunks

    def cancel(self, job_id: str) -> Job:
        """Cancel a job, at once; one that has ended is left as it is (wire.md 4).

        :raises JobNotFound: it is unknown.
        """
        job = self.get(job_id)
        if not job.terminal:
            self.life.stop_worker_of(job)
            self.life.end(job, JobStatus.CANCELLED)
        return job

    def retry(self, job_id: str) -> Job:
        """Queue a FAILED or TIMED_OUT job again: same id, same input, its old result removed (wire.md 4).

        Its ttl still counts from its first submission.

        :raises JobNotFound: it is unknown.
        :raises NotRetryable: it is in another state, or its ttl has run out.
        """
        job = self.get(job_id)
        if job.status not in RETRYABLE:
            raise NotRetryable(
                f"bad request: job is {job.status}: only a FAILED or TIMED_OUT job can be retried"
            )
        if job.expires_ms <= self.clock.now_ms():
            raise NotRetryable("bad request: job has expired: its ttl has run out; submit it again")
        self.life.begin_again(job)
        return job

    def purge_queue(self) -> int:
        """Cancel every queued job; running ones go on. Returns how many there were (wire.md 4)."""
        return sum(1 for _ in self.purging())

    def purging(self) -> Iterator[Job]:
        """Cancel the jobs that are queued now, one with each step; those that come meanwhile stay, and one
        that a worker takes before its turn has come is not cancelled.
        """
        last_place = self.queue.last_place
        for job in list(self.life.interference.held_back()):
            if job.status is JobStatus.IN_QUEUE:
                self.life.end(job, JobStatus.CANCELLED)
                yield job
        while (first := self.queue.first()) is not None and first.place <= last_place:
            self.life.end(first, JobStatus.CANCELLED)
            yield first

    @property
    def queued_count(self) -> int:
        """How many jobs are IN_QUEUE."""
        return len(self.queue) + len(self.life.interference.held_back())

    def queued(self) -> Iterator[Job]:
        """The jobs that are IN_QUEUE, in the order in which they would be served; any of them may end
        meanwhile.
        """
        yield from self.queue
        yield from list(self.life.interference.held_back())

    def health(self) -> dict[str, dict[str, int]]:
        """The body of /health (wire.md 4)."""
        workers = {state.value: count for state, count in self.pool.counts().items()}
        return {
            "jobs": {
                "completed": self.life.ended[JobStatus.COMPLETED],
                "failed": self.life.ended[JobStatus.FAILED] + self.life.ended[JobStatus.TIMED_OUT],
                "inProgress": self.life.in_progress,
                "inQueue": self.queued_count,
                "retried": self.life.retried,
            },
            "workers": dict(sorted({**workers, "ready": workers["idle"]}.items())),
        }

    @property
    def job_count(self) -> int:
        """How many jobs are kept, those that timed out among them."""
        return len(self._store) + len(self.life.timed_out)

    def newest_jobs(self) -> Iterator[Job]:
        """All jobs that are kept, and those that timed out, which clients no longer find; the last submitted
        first.
        """
        jobs = self._store.newest_first()
        if not (gone := self.life.timed_out):
            return jobs
        newest = sorted(gone.values(), key=_newest, reverse=True)
        return merge(jobs, newest, key=_newest, reverse=True)

    def list_jobs(self, *, offset: int, limit: int, with_timed_out: bool = False) -> tuple[list[Job], int]:
        """Jobs, newest first: `limit` of them from `offset`, and how many there are in all.

        `with_timed_out`: with those that timed out, which clients no longer find.
        """
        jobs = self.newest_jobs() if with_timed_out else self._store.newest_first()
        total = self.job_count if with_timed_out else len(self._store)
        return list(islice(jobs, offset, offset + limit)), total

    async def search_jobs(
        self, *, offset: int, limit: int, status: JobStatus | None, with_timed_out: bool = False
    ) -> tuple[list[Job], int]:
        """As `list_jobs`, those with one status alone: each is looked at, and others are served meanwhile."""
        if status is None:
            return self.list_jobs(offset=offset, limit=limit, with_timed_out=with_timed_out)
        most, matching = self._most_with(status), []
        jobs = list(self.newest_jobs() if with_timed_out else self._store.newest_first()) if most else []
        async for job in in_slices(jobs):
            if job.status is status:
                matching.append(job)
                if len(matching) == most:
                    # There can be no more of them.
                    break
        return matching[offset : offset + limit], len(matching)

    def _most_with(self, status: JobStatus) -> int:
        """How many jobs may have a status, those among them that are forgotten."""
        if status is JobStatus.IN_QUEUE:
            return self.queued_count
        return self.life.in_progress if status is JobStatus.IN_PROGRESS else self.life.ended[status]


def _newest(job: Job) -> int:
    return job.submitted_ms
