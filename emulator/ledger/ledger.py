"""Writes down what happens, in rounds, off the loop; and says when it is safe to tell of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from emulator.core.events import ChunksRead, JobForgotten, JobMoved, JobOutput
from emulator.core.job import JobStatus
from emulator.errors import NotKept, StateError
from emulator.ledger.database import Batch
from emulator.ledger.records import COUNTS, ChunkRecord, counts_of, delivery_of, request_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from emulator.core.endpoint import Endpoint
    from emulator.core.events import Change
    from emulator.core.job import Job
    from emulator.ledger.database import Database
    from emulator.ledger.records import PartRecord
    from emulator.webhooks.deliveries import Delivery

log = logging.getLogger("emulator.state")

#: Real seconds after which what could not be written is tried again, whether somebody asks for it or not.
_TRIED_AGAIN_S = 1.0
#: Jobs that had to be refused, whose clients may still be about to be answered.
_REFUSED_KEPT = 10_000

#: Everything that is no job as it stands now: what has changed of it is written.
Parts: TypeAlias = "Callable[[], Iterable[PartRecord]]"


class _Round:
    """What has changed since the last round, and who waits for it to be on disk."""

    __slots__ = (
        "chunks", "counted", "deliveries", "gone_chunks", "gone_deliveries", "gone_jobs", "jobs", "new",
        "touched", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self.jobs: dict[Job, Endpoint] = {}
        #: Those among them that no file has.
        self.new: set[Job] = set()
        self.gone_jobs: list[int] = []
        self.chunks: dict[int, ChunkRecord] = {}
        self.gone_chunks: list[int] = []
        self.deliveries: dict[Delivery, None] = {}
        self.gone_deliveries: list[int] = []
        #: The endpoints whose counters have changed.
        self.counted: dict[Endpoint, None] = {}
        #: Whether anything that is no job may have changed.
        self.touched = False
        self.waiting: list[asyncio.Future[None]] = []


class Ledger:
    """Hears of all that happens, and has it on disk a moment later: one commit at a time, in a thread.

    What comes while a commit is being made goes into the next one, so nobody waits for longer than two.
    """

    def __init__(self, database: Database, parts: Parts) -> None:
        self._database = database
        self._parts = parts
        self._job_number, self._chunk_number = database.last_numbers()
        #: Of each job with unread chunks, their numbers.
        self._chunks: dict[Job, deque[int]] = {}
        #: What the file has of the parts.
        self._written_parts: dict[tuple[str, str], bytes] = {}
        self._round = _Round()
        self._writing: _Round | None = None
        self._wanted = False
        self._refused: dict[str, None] = {}
        #: Why the last commit failed; None while all is well.
        self.failure: str | None = None
        self._retrying: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, "emulator-state")
        self._closed = False

    # What is told to it

    def knows(self, job: Job, chunks: Iterable[int]) -> None:
        """A job, and the numbers of its unread chunks, that the file has already."""
        if numbers := deque(chunks):
            self._chunks[job] = numbers

    def adopt(self, endpoint: Endpoint, job: Job) -> None:
        """A job that has come from elsewhere, with its unread chunks."""
        self._on_moved(endpoint, job, None)
        for chunk in job.chunks or ():
            self._add_chunk(job, chunk)

    def knows_parts(self, parts: Iterable[PartRecord]) -> None:
        """Parts that the file has already."""
        for part in parts:
            self._written_parts[part.kind, part.name] = part.value

    def on_event(self, endpoint: Endpoint, event: Change) -> None:
        """Something has happened at an endpoint."""
        kind = type(event)
        if kind is JobMoved:
            assert isinstance(event, JobMoved)
            self._on_moved(endpoint, event.job, event.before)
        elif kind is JobOutput:
            assert isinstance(event, JobOutput)
            self._on_output(endpoint, event)
        elif kind is ChunksRead:
            assert isinstance(event, ChunksRead)
            self._on_read(event)
        elif kind is JobForgotten:
            assert isinstance(event, JobForgotten)
            self._forget(event.job)

    def changed(self, delivery: Delivery) -> None:
        """A webhook's delivery is new, or its next attempt is to come."""
        self._round.deliveries[delivery] = None
        self._want()

    def gone(self, delivery: Delivery) -> None:
        """A delivery is over."""
        self._round.deliveries.pop(delivery, None)
        self._round.gone_deliveries.append(delivery.number)
        self._want()

    def recount(self, endpoint: Endpoint) -> None:
        """An endpoint counts anew."""
        self._round.counted[endpoint] = None
        self._want()

    def touch(self) -> None:
        """Something other than a job may have changed: it is looked at with the next round."""
        self._round.touched = True
        self._want()

    def _on_moved(self, endpoint: Endpoint, job: Job, before: JobStatus | None) -> None:
        if not job.number:
            self._job_number += 1
            job.number = self._job_number
            self._round.new.add(job)
        if job.status is JobStatus.TIMED_OUT:
            # Nobody finds it any more.
            self._forget(job)
            self._round.counted[endpoint] = None
            return
        self._round.counted[endpoint] = None
        if job.status is JobStatus.IN_QUEUE and before is not None:
            # What the last attempt left unread is gone.
            self._drop_chunks(job)
        self._round.jobs[job] = endpoint
        self._want()

    def _on_output(self, endpoint: Endpoint, event: JobOutput) -> None:
        job = endpoint.get(event.job_id)
        if event.form == "chunk":
            self._add_chunk(job, event.output_json)
        # Whoever is told of the chunk waits for the job.
        self._round.jobs[job] = endpoint
        self._want()

    def _add_chunk(self, job: Job, output_json: bytes) -> None:
        self._chunk_number += 1
        self._chunks.setdefault(job, deque()).append(self._chunk_number)
        self._round.chunks[self._chunk_number] = ChunkRecord(self._chunk_number, job.number, output_json)

    def _on_read(self, event: ChunksRead) -> None:
        numbers = self._chunks.get(event.job)
        if numbers is None:
            return
        # The reader does not wait for this: after a crash it may be told the same again, and loses none.
        for _ in range(min(event.count, len(numbers))):
            self._drop_chunk(numbers.popleft())
        if not numbers:
            del self._chunks[event.job]
        self._want()

    def _drop_chunks(self, job: Job) -> None:
        for number in self._chunks.pop(job, ()):
            self._drop_chunk(number)

    def _drop_chunk(self, number: int) -> None:
        if self._round.chunks.pop(number, None) is None:
            self._round.gone_chunks.append(number)

    def _forget(self, job: Job) -> None:
        self._drop_chunks(job)
        self._round.jobs.pop(job, None)
        if job in self._round.new:
            self._round.new.discard(job)
        elif job.number:
            self._round.gone_jobs.append(job.number)
        job.number = 0
        self._want()

    # What it answers

    async def kept(self, job_id: str | None = None) -> None:
        """Return when all that has happened so far is on disk.

        :param job_id: a job without which there would be nothing to tell.
        :raises NotKept: it cannot be written.
        """
        await self._await(self._round if self._wanted else self._writing)
        self._check(job_id)

    def has_refused(self, job_id: str) -> bool:
        """Whether a job had to be taken back, as it could not be written."""
        return job_id in self._refused

    async def job_kept(self, endpoint: Endpoint, job_id: str) -> None:
        """Return when what a job has become is on disk, whatever becomes of others.

        :raises NotKept: it cannot be written.
        """
        for waited in (self._round, self._writing):
            if waited is not None and waited.jobs and _has(waited, endpoint, job_id):
                await self._await(waited)
                break
        self._check(job_id)

    async def ready(self) -> None:
        """Return when the file can be written, as far as is known.

        :raises NotKept: it cannot.
        """
        if self.failure is not None:
            self._want()
            await self.kept()

    async def _await(self, waited: _Round | None) -> None:
        if waited is None or self._closed:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waited.waiting.append(future)
        await future

    def _check(self, job_id: str | None) -> None:
        if job_id is not None and job_id in self._refused:
            raise NotKept(_refusal(self.failure or "it could not be written at the time"))

    # Rounds

    def _want(self) -> None:
        if not self._wanted and not self._closed:
            self._wanted = True
            if self._writing is None:
                # At the end of this round of the loop: what else happens in it is in the same commit.
                asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        if not self._wanted or self._writing is not None:
            return
        if self._retrying is not None:
            self._retrying.cancel()
            self._retrying = None
        self._wanted = False
        self._writing, self._round = self._round, _Round()
        batch = self._batch_of(self._writing)
        task = asyncio.get_running_loop().run_in_executor(self._thread, self._database.write, batch)
        task.add_done_callback(partial(self._on_written, batch))

    def _batch_of(self, writing: _Round) -> Batch:
        parts = [counts_of(endpoint) for endpoint in writing.counted]
        gone_parts: list[tuple[str, str]] = []
        if writing.touched:
            there = {(part.kind, part.name): part for part in self._parts()}
            parts += [part for key, part in there.items() if self._written_parts.get(key) != part.value]
            gone_parts = [key for key in self._written_parts if key not in there]
        return Batch(
            requests=[
                request_of(endpoint, job) for job, endpoint in writing.jobs.items() if job in writing.new
            ],
            jobs=[state_of(endpoint, job) for job, endpoint in writing.jobs.items()],
            gone_jobs=writing.gone_jobs,
            chunks=list(writing.chunks.values()),
            gone_chunks=writing.gone_chunks,
            deliveries=[delivery_of(delivery) for delivery in writing.deliveries],
            gone_deliveries=writing.gone_deliveries,
            parts=parts,
            gone_parts=gone_parts,
        )

    def _on_written(self, batch: Batch, task: asyncio.Future[None]) -> None:
        written, self._writing = self._writing, None
        assert written is not None
        error = None if task.cancelled() else task.exception()
        if error is None:
            if self.failure is not None:
                log.warning("state: %s can be written again", self._database.path)
                self.failure = None
            self.knows_parts(part for part in batch.parts if part.kind != COUNTS)
            for key in batch.gone_parts:
                self._written_parts.pop(key, None)
        else:
            self._on_failure(written, error)
        for future in written.waiting:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(NotKept(_refusal(str(error))))
        if self._wanted:
            self._write()

    def _on_failure(self, failed: _Round, error: BaseException) -> None:
        if not isinstance(error, StateError):
            log.error("state: a commit failed: this is a bug of the emulator", exc_info=error)
        if self.failure is None:
            log.error("state: %s; what comes is refused until it can be", error)
        self.failure = str(error)
        # What was there before is written later; what has just come is refused.
        later = self._round
        for job in failed.new:
            if job.number and job in failed.jobs:
                self._refuse(failed.jobs.pop(job), job)
        later.jobs = {job: endpoint for job, endpoint in failed.jobs.items() if job.number} | later.jobs
        later.gone_jobs = failed.gone_jobs + later.gone_jobs
        gone = set(later.gone_chunks)
        later.gone_chunks = failed.gone_chunks + [number for number in gone if number not in failed.chunks]
        left = {number: chunk for number, chunk in failed.chunks.items() if number not in gone}
        later.chunks = left | later.chunks
        over = set(later.gone_deliveries)
        waiting = {each: None for each in failed.deliveries if each.number not in over}
        later.deliveries = waiting | later.deliveries
        later.gone_deliveries = failed.gone_deliveries + later.gone_deliveries
        later.counted |= failed.counted
        later.touched |= failed.touched
        if self._retrying is None and not self._closed:
            self._retrying = asyncio.get_running_loop().call_later(_TRIED_AGAIN_S, self._want)

    def _refuse(self, endpoint: Endpoint, job: Job) -> None:
        self._refused[job.id] = None
        if len(self._refused) > _REFUSED_KEPT:
            del self._refused[next(iter(self._refused))]
        # As for a job that was not written yet: nothing of it is to go from the file.
        self._round.new.add(job)
        endpoint.life.retract(job)

    async def close(self) -> None:
        """Write what is left, and end the thread."""
        self._want()
        if self._wanted or self._writing is not None:
            try:
                await self.kept()
            except NotKept as error:
                log.error("state: %s", error)
        self._closed = True
        if self._retrying is not None:
            self._retrying.cancel()
        self._thread.shutdown()


def _has(waited: _Round, endpoint: Endpoint, job_id: str) -> bool:
    job = endpoint.find(job_id)
    return job is not None and job in waited.jobs


def _refusal(failure: str) -> str:
    return f"nothing can be made durable: {failure}; send it again once that is mended"
