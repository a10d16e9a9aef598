"""The worker's door: where every kind of worker takes jobs and brings back results (wire.md 7).

What an external worker does here over HTTP, one in this process does by calling the methods.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from emulator.core.bounds import STRANGERS_MAX
from emulator.core.chunks import CHUNK_MAX_BYTES, is_text, pieces_of
from emulator.core.job import JobStatus
from emulator.core.result import MIB
from emulator.core.worker import LoggedError, WorkerState
from emulator.errors import WorkerGone

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from emulator.core.endpoint import Endpoint
    from emulator.core.events import WorkerLine
    from emulator.core.job import Job
    from emulator.core.result import JobResult, ResultLimit
    from emulator.core.worker import Worker

#: How long a job may be on its way to a worker whose heartbeats do not name it yet. With production's ten
#: seconds from one to the next, the two that must miss it take as long.
_DELIVERY_PATIENCE_MS = 10_000


class Gateway:
    """The worker's side of one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._life = endpoint.life
        self._pool = endpoint.pool

    @property
    def has_queue(self) -> bool:
        """Whether a job waits, so that the next take need not."""
        return len(self._endpoint.queue) > 0

    async def take(
        self,
        worker_id: str,
        *,
        limit: int = 1,
        hold_ms: int | None = None,
        in_progress: bool | None = None,
        by_batch: bool = False,
    ) -> list[Job]:
        """Up to `limit` jobs; waits for the first up to `hold_ms` (None: as long as it takes).

        `in_progress` is the worker's word on whether it has a job. When it has none, one that it should have
        is lost (wire.md 7); not so from a worker that has asked for a job beside another, as SDKs before 1.7
        ask for several at once, and such a take crosses with the answer to another: its heartbeats will tell.
        `by_batch` is whether the SDK would have asked for a batch.

        :raises WorkerGone: the worker is unknown or going away.
        """
        parked = self._pool.parked(worker_id)
        if parked is not None and not await parked.unparked.wait(self._endpoint.clock, hold_ms, "job-take"):
            return []
        worker = self._pool.checked_in(worker_id)
        worker.takes += 1
        worker.by_batch = by_batch
        if worker.paused:
            return await self._endpoint.takers.wait(worker, limit, hold_ms)
        if in_progress:
            worker.takes_beside = True
        if in_progress is False and worker.busy and not worker.takes_beside:
            for job_id in list(worker.stopping):
                self.let_go(worker_id, job_id)
            for job in list(worker.jobs.values()):
                self._lose_from(worker, job, "its worker asked for another job")
            worker = self._pool.checked_in(worker_id)
        if jobs := self._life.deliver(worker, limit):
            return jobs
        given = await self._endpoint.takers.wait(worker, limit, hold_ms)
        if not given:
            if beside := self._life.interference.gives_beside(worker):
                self._pool.occupied(worker)
                return beside
            is_parked = self._pool.parked(worker_id) is not None
            return (
                await self.take(worker_id, limit=limit, hold_ms=hold_ms, by_batch=by_batch)
                if is_parked
                else []
            )
        jobs = [job for job in given if worker.jobs.get(job.id) is job]
        for job in given:
            # Cancelled before the worker woke up: it need not be told to stop.
            self.let_go(worker_id, job.id)
        if not jobs:
            return await self.take(worker_id, limit=limit, hold_ms=hold_ms, by_batch=by_batch)
        if len(jobs) < limit and not worker.retiring:
            # Others have come since the first woke the worker.
            jobs += self._life.deliver(worker, limit - len(jobs))
        return jobs

    def take_beside_result(self, worker_id: str) -> Job | None:
        """The next job for a worker that has just brought a result, if there is one for it already: it need
        not ask then.
        """
        worker = self._pool.get(worker_id)
        if worker is None or worker.state is not WorkerState.IDLE or worker.retiring or worker.paused:
            return None
        if not self._life.interference.hands_on():
            return None
        worker.takes += 1
        worker.by_batch = False
        jobs = self._life.deliver(worker, 1)
        return jobs[0] if jobs else None

    def push_chunk(self, worker_id: str, job_id: str, chunk_json: bytes) -> bool:
        """A chunk of the job's stream, as JSON text; False when the job is no longer this worker's."""
        job = self._held(worker_id, job_id, "chunk")
        if job is None:
            return False
        if len(chunk_json) > CHUNK_MAX_BYTES and not is_text(chunk_json):
            self._life.advise(
                "a chunk of its stream is above 1 MB: production splits strings alone, and refuses a chunk"
                " of another type that is so large; yield smaller ones",
                job,
                worker_id,
            )
        limit = self._life.result_limit(job)
        if len(chunk_json) > limit.mib * MIB:
            told = f"a chunk of its stream is dropped, and its worker answered 400: {limit.whose}"
            self._life.notice("warning", told, job, worker_id)
            return True
        for piece in pieces_of(chunk_json):
            self._life.add_chunk(job, piece)
        return True

    def result_limit(self, worker_id: str, job_id: str) -> ResultLimit | None:
        """How large the result of a job may be, and each of its chunks; None when it is not this worker's."""
        worker = self._pool.get(worker_id)
        job = None if worker is None else worker.jobs.get(job_id)
        return None if job is None else self._life.result_limit(job)

    def advise(self, worker_id: str, job_id: str, advice: str) -> None:
        """Tell a person, once, something about what workers bring for jobs like this one."""
        worker = self._pool.get(worker_id)
        if worker is not None and (job := worker.jobs.get(job_id)) is not None:
            self._life.advise(advice, job, worker_id)

    def report_progress(self, worker_id: str, job_id: str, progress_json: bytes) -> bool:
        """What /status shows as output until the job ends; False when the job is no longer this worker's."""
        job = self._held(worker_id, job_id, "progress update")
        if job is None:
            return False
        self._life.show_progress(job, progress_json)
        return True

    def finish(self, worker_id: str, job_id: str, result: JobResult) -> bool:
        """The end of a job. A result for a job that is no longer this worker's is dropped: False.

        May be called again for the same job, as a worker does that got no answer.
        """
        job = self._held(worker_id, job_id, "result")
        worker = self._pool.get(worker_id)
        if job is None or worker is None:
            self.let_go(worker_id, job_id)
            # Having let go of its last job, one that was to be replaced is gone by now.
            if (worker := self._pool.get(worker_id)) is not None and worker.state is WorkerState.RUNNING:
                # It was given the job beside another worker.
                self._pool.freed(worker)
            return False
        if not self._life.interference.loses_result(job, worker):
            if result.error is None and self._life.interference.loses_output(job, worker):
                result = replace(result, output_json=None)
            self._life.finish(job, worker, result)
        return True

    def heartbeat(self, worker_id: str, job_ids: Iterable[str], *, missed_when_silent: bool = True) -> None:
        """The worker is alive and works on these jobs. A job missing twice in a row is lost (wire.md 7);
        one that it was told to stop is let go of by the first that can know of it.

        A worker that has sent one is lost when it then falls silent, unless its end would be noticed anyway.

        :raises WorkerGone: the worker is unknown.
        """
        worker = self._pool.get(worker_id)
        if worker is None:
            raise WorkerGone
        if self._life.interference.silences(worker):
            return
        if worker.state is WorkerState.UNHEALTHY:
            # A late sign of life of a worker that is being started anew.
            return
        if missed_when_silent and not worker.hung_up:
            self._expect_another(worker)
        named = frozenset(job_ids) | worker.unseen
        # One that was sent before the worker had the job says nothing of it.
        for job_id in (worker.stopping.keys() - named) & worker.heard_of:
            self.let_go(worker_id, job_id)
        missing = frozenset(worker.jobs.keys() - named)
        lost = missing & worker.missing
        worker.missing = missing
        worker.heard_of = frozenset(worker.jobs.keys() | worker.stopping.keys())
        for job_id in lost:
            self._lose_from(worker, worker.jobs[job_id], "its worker's heartbeats no longer name it")

    async def next_stop_signals(self, worker_id: str, *, hold_ms: int | None = None) -> list[str]:
        """The ids of jobs the worker must stop; waits for the first up to `hold_ms`
        (None: as long as it takes).

        :raises WorkerGone: the worker is unknown or went away meanwhile.
        """
        worker = self._known(worker_id)
        if not worker.stop_signals:
            await worker.stop_called.wait(self._endpoint.clock, hold_ms, "job-stop")
            worker = self._known(worker_id)
        signals = list(worker.stop_signals)
        worker.stop_signals.clear()
        return signals

    def drop(self, worker_id: str, job_id: str, reason: str) -> None:
        """The worker is at a job no more, and will bring no result of it."""
        worker = self._pool.get(worker_id)
        if worker is not None and (job := worker.jobs.get(job_id)) is not None:
            self._lose_from(worker, job, reason)

    def hand_back(self, worker_id: str, job_ids: Iterable[str]) -> None:
        """The worker has not begun with these jobs, which it took: they are again the first in the queue."""
        if (worker := self._pool.get(worker_id)) is not None:
            self._life.hand_back(worker.jobs[job_id] for job_id in job_ids if job_id in worker.jobs)

    def let_go(self, worker_id: str, job_id: str) -> None:
        """The worker no longer works on a job it was told to stop."""
        worker = self._pool.get(worker_id)
        if worker is not None and self._life.let_go(worker, job_id):
            self._pool.freed(worker)

    def crashed(self, worker_id: str, reason: str) -> None:
        """The worker is dead."""
        self._pool.forget_parked(worker_id)
        if (worker := self._pool.get(worker_id)) is not None:
            self._life.lose_worker(worker, reason)

    def ended(self, worker_id: str) -> None:
        """A worker that was to be killed is dead."""
        if (worker := self._pool.get(worker_id)) is not None:
            self._life.worker_ended(worker, worker.retiring)

    def cannot_stop(self, worker_id: str, reason: str) -> None:
        """The worker cannot stop a job it was told to stop: it is to be replaced without waiting."""
        if (worker := self._pool.get(worker_id)) is not None:
            self._life.replace_worker(worker, reason)

    # Workers that nobody here has started

    def holder_of(self, job_id: str) -> str | None:
        """The id of the worker that holds a job; None when nobody does."""
        return next((worker.id for worker in self._pool if job_id in worker.jobs), None)

    def is_ours(self, worker_id: str) -> bool:
        """Whether the worker is one that was started here, and has not gone."""
        worker = self._pool.get(worker_id) or self._pool.parked(worker_id)
        return worker is not None and not worker.external

    def is_up(self, worker_id: str) -> bool:
        """Whether the worker has asked for a job since it was started."""
        worker = self._pool.get(worker_id) or self._pool.parked(worker_id)
        return worker is not None and worker.state is not WorkerState.INITIALIZING

    def is_starting(self, worker_id: str) -> bool:
        """Whether the worker has not asked for a job yet; one that was let go meanwhile is not waited for."""
        worker = self._pool.get(worker_id)
        return worker is not None and worker.state is WorkerState.INITIALIZING

    def takes_of_idle(self, worker_id: str) -> int | None:
        """How often a worker that waits for nothing, though it holds no job, has asked for one.

        None for one that holds a job, waits for one, or is not to get any.
        """
        worker = self._pool.get(worker_id)
        if worker is None or worker.state is not WorkerState.IDLE or self._endpoint.takers.has(worker):
            return None
        return worker.takes

    def warn(self, worker_id: str, message: str) -> None:
        """Tell a person something about a worker."""
        self._life.notice("warning", message, worker_id=worker_id)

    def is_leaving(self, worker_id: str) -> bool:
        """Whether a worker that was started here is to get no more jobs, or is gone already."""
        if self._pool.parked(worker_id) is not None:
            return False
        worker = self._pool.get(worker_id)
        return worker is None or bool(worker.retiring) or worker.state is WorkerState.UNHEALTHY

    async def linger(self, worker_id: str, hold_ms: int) -> None:
        """Wait up to `hold_ms` for a leaving worker to be gone: told at once, it would ask again at once."""
        clock, worker = self._endpoint.clock, self._pool.get(worker_id)
        if worker is None:
            await clock.sleep(hold_ms, "job-take")
        else:
            await worker.stop_called.wait(clock, hold_ms, "job-take")

    def meet(self, worker_id: str) -> None:
        """A worker makes itself known: one that nobody here has started joins.

        :raises WorkerGone: there are too many already.
        """
        if self._pool.get(worker_id) is None and self._pool.parked(worker_id) is None:
            if len(self._pool) >= STRANGERS_MAX:
                raise WorkerGone
            self._expect_another(self._pool.welcome(worker_id))
            if worker_id.startswith("$"):
                self.warn(
                    worker_id,
                    f"the URL by which it asks for jobs still has {worker_id}: put the worker's id in its"
                    " place, as a second worker with this URL would be taken for the same one",
                )

    def expect_back(self) -> None:
        """Workers that came by themselves to an earlier process are lost if they do not show themselves."""
        for worker in self._pool:
            if worker.external:
                self._expect_another(worker)

    @contextmanager
    def contact(self, worker_id: str, *, by_ping: bool = False) -> Iterator[None]:
        """A worker that came by itself is alive while the body runs, and is missed some time after it.

        `by_ping` is whether it is but its heartbeat: a process of its own sends that, which may be all that
        is left of the worker.
        """
        worker = self._pool.get(worker_id)
        if worker is None or not worker.external or (by_ping and worker.hung_up):
            yield
            return
        if not by_ping:
            worker.hung_up = False
        worker.polls += 1
        try:
            yield
        finally:
            worker.polls -= 1
            if self._pool.get(worker_id) is worker:
                self._expect_another(worker)

    def hung_up(self, worker_id: str) -> None:
        """A worker went away while it waited for us, as it does when its process ends."""
        worker = self._pool.get(worker_id)
        if worker is not None and worker.external:
            worker.hung_up = True

    def complain(self, worker_id: str, complaint: str) -> None:
        """The worker says that it is unfit for work."""
        if (worker := self._pool.get(worker_id)) is not None:
            if worker.external or self.is_up(worker_id):
                # Of one that does not start it is told with its end.
                self._life.notice("warning", complaint, worker_id=worker_id)
            self._pool.complain(worker, complaint)

    def just_delivered(self, worker_id: str) -> list[str]:
        """The jobs that the worker was given so shortly ago that it may not know them yet."""
        worker = self._pool.get(worker_id)
        since_ms = self._endpoint.clock.now_ms() - _DELIVERY_PATIENCE_MS
        jobs = () if worker is None else worker.jobs.values()
        return [job.id for job in jobs if job.started_ms is not None and job.started_ms > since_ms]

    def wrote(self, worker_id: str, lines: Sequence[WorkerLine]) -> None:
        """The worker's output. What it prints by itself is about the only job it holds, or held last: a line
        may be read only after the result it was printed before.
        """
        worker = self._pool.get(worker_id)
        if worker is not None and len(worker.jobs) < 2:
            likely_job_id = next(iter(worker.jobs), worker.last_job_id)
        else:
            likely_job_id = None
        if worker is not None:
            for line in lines:
                if line.level == "ERROR":
                    worker.last_error = LoggedError(line.job_id, line.text)
        self._life.tell_output(worker_id, likely_job_id, lines)

    def _expect_another(self, worker: Worker) -> None:
        """Arm the timer after which a worker that shows no sign of life is lost."""
        clock = self._endpoint.clock
        if self._life.interference.silences(worker):
            return
        clock.cancel(worker.ping_timer)
        # Real workers do not report in more often on a clock that runs faster.
        timeout_ms = self._endpoint.config.heartbeat_timeout_ms * max(1, round(clock.rate))
        worker.ping_timer = clock.call_later(timeout_ms, "heartbeat", self._on_silence, worker)

    def _known(self, worker_id: str) -> Worker:
        worker = self._pool.get(worker_id) or self._pool.parked(worker_id)
        if worker is None:
            raise WorkerGone
        return worker

    def _held(self, worker_id: str, job_id: str, what: str) -> Job | None:
        worker = self._pool.get(worker_id)
        job = None if worker is None else worker.jobs.get(job_id)
        if job is None or job.status is not JobStatus.IN_PROGRESS:
            if self._life.late_pieces.is_news(worker_id, job_id, what):
                self._life.notice(
                    "info",
                    f"a late {what} for job {job_id} was dropped: the job is no longer this worker's",
                    worker_id=worker_id,
                )
            return None
        return job

    def _lose_from(self, worker: Worker, job: Job, seen_by: str) -> None:
        """A worker is at a job no more and has brought no result: none can come."""
        del worker.jobs[job.id]
        reason = f"its result never came: {seen_by}"
        if worker.last_error.job_id == job.id:
            reason += f"; the worker wrote: {worker.last_error.text}"
        self._life.lose(job, reason)
        if self._pool.get(worker.id) is worker:
            self._pool.freed(worker)

    def _on_silence(self, worker: Worker) -> None:
        worker.ping_timer = None
        if worker.polls:
            # It waits for us, and will be expected again when it has been answered.
            return
        reason = (
            "it has hung up and not called again, though its heartbeats go on"
            if worker.hung_up
            else ("its heartbeats have stopped")
        )
        self._life.lose_worker(worker, reason)
