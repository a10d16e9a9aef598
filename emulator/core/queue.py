"""The endpoint's queue: first in, first out, with every job removable at once wherever it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.core.job import Job


class _Lane:
    """A doubly linked list through the jobs themselves: removal costs the same at any length."""

    __slots__ = ("head", "length", "tail")

    def __init__(self) -> None:
        self.head: Job | None = None
        self.tail: Job | None = None
        self.length = 0

    def append(self, job: Job) -> None:
        job.previous_queued = self.tail
        if self.tail is None:
            self.head = job
        else:
            self.tail.next_queued = job
        self.tail = job
        self.length += 1

    def prepend(self, job: Job) -> None:
        job.next_queued = self.head
        if self.head is None:
            self.tail = job
        else:
            self.head.previous_queued = job
        self.head = job
        self.length += 1

    def remove(self, job: Job) -> None:
        before, after = job.previous_queued, job.next_queued
        if job is not (self.head if before is None else before.next_queued):
            raise ValueError(f"job {job.id} is not in this queue")
        if before is None:
            self.head = after
        else:
            before.next_queued = after
        if after is None:
            self.tail = before
        else:
            after.previous_queued = before
        job.previous_queued = job.next_queued = None
        self.length -= 1

    def __iter__(self) -> Iterator[Job]:
        job = self.head
        while job is not None:
            # The link is read first: the caller may take the job out of the lane.
            following = job.next_queued
            yield job
            job = following


class JobQueue:
    """Jobs in order of arrival. Low-priority ones keep a lane of their own so that the scaler,
    which must not see them, looks only at the other; workers are served from both in order.
    """

    def __init__(self) -> None:
        self._normal = _Lane()
        self._low = _Lane()
        self._last_place = 0
        self._first_place = 0

    def __len__(self) -> int:
        return self._normal.length + self._low.length

    def __contains__(self, job: Job) -> bool:
        return job.place != 0

    @property
    def scaling_length(self) -> int:
        """How many queued jobs count for scaling."""
        return self._normal.length

    def scaling_jobs(self) -> Iterator[Job]:
        """The jobs that count for scaling, oldest first."""
        return iter(self._normal)

    def append(self, job: Job) -> None:
        """Put a job at the end.

        :raises ValueError: it is in a queue already.
        """
        _check_is_free(job)
        self._last_place += 1
        job.place = self._last_place
        self._lane(job).append(job)

    def restore(self, job: Job, place: int) -> None:
        """Put a job at the end, with the place that it had before: above that of every other.

        :raises ValueError: it is in a queue already.
        """
        _check_is_free(job)
        self._first_place = min(self._first_place, place)
        self._last_place = max(self._last_place, place)
        job.place = place
        self._lane(job).append(job)

    def prepend(self, job: Job) -> None:
        """Put back at the front a job that was taken but never delivered.

        :raises ValueError: it is in a queue already.
        """
        _check_is_free(job)
        self._first_place -= 1
        job.place = self._first_place
        self._lane(job).prepend(job)

    def remove(self, job: Job) -> None:
        """Take out a job.

        :raises ValueError: it is not in the queue.
        """
        if not job.place:
            raise ValueError(f"job {job.id} is not in the queue")
        self._lane(job).remove(job)
        job.place = 0

    @property
    def last_place(self) -> int:
        """The place of the job that came last: those that come later have a higher one."""
        return self._last_place

    def first(self) -> Job | None:
        """The job that came first."""
        first, low = self._normal.head, self._low.head
        return low if first is None or (low is not None and low.place < first.place) else first

    def pop(self) -> Job | None:
        """Take out the job that came first."""
        if self._normal.head is None and self._low.head is None:
            return None
        first = self.first()
        if first is not None:
            self.remove(first)
        return first

    def __iter__(self) -> Iterator[Job]:
        yield from self._normal
        yield from self._low

    def _lane(self, job: Job) -> _Lane:
        return self._low if job.policy.low_priority else self._normal


def _check_is_free(job: Job) -> None:
    if job.place:
        raise ValueError(f"job {job.id} is in a queue already")
