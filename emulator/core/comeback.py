"""Jobs that outlived the process that they were submitted to: where each of them goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from emulator.core.job import Job, JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emulator.core.job_life import JobLife


class Kept(NamedTuple):
    """A job as it was left."""

    job: Job
    #: Its place in the queue; 0 when it was in none.
    place: int
    #: Its worker came by itself: it may live, and bring the result.
    held_elsewhere: bool


def come_back(life: JobLife, kept: Iterable[Kept]) -> list[Job]:
    """Put each job where it was; returns those in progress whose workers are gone.

    The job of a worker that came by itself stays in its hands. The caller has such a worker expected: it is
    lost when it does not show itself within the heartbeat time-out.
    """
    queued: list[tuple[int, Job]] = []
    unplaced: list[Job] = []
    orphans: list[Job] = []
    for job, place, held_elsewhere in kept:
        life.take_back(job)
        if job.status is JobStatus.IN_QUEUE:
            if place:
                queued.append((place, job))
            else:
                # Something kept it from the queue, and does no more.
                unplaced.append(job)
        elif job.status is JobStatus.IN_PROGRESS:
            # One whose input is empty never reached its worker (wire.md 2).
            if held_elsewhere and job.worker_id is not None and not job.empty_input:
                pool = life.pool
                worker = pool.get(job.worker_id) or pool.welcome(job.worker_id)
                worker.jobs[job.id] = job
                pool.occupied(worker)
            else:
                orphans.append(job)
    queued.sort(key=_place)
    for place, job in queued:
        life.queue.restore(job, place)
    for job in unplaced:
        life.queue.append(job)
    return orphans


def _place(entry: tuple[int, Job]) -> int:
    return entry[0]
