"""Where an endpoint keeps its jobs: the seam for a store that outlives the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.core.job import Job


class JobStore(Protocol):
    """Jobs by id, in order of submission."""

    def add(self, job: Job) -> None:
        """Keep a job whose id is new."""

    def get(self, job_id: str) -> Job | None:
        """The job, or None when it is unknown or gone."""

    def remove(self, job_id: str) -> None:
        """Forget a job; one that is unknown is no error."""

    def newest_first(self) -> Iterator[Job]:
        """All jobs, the last submitted first."""

    def take_all(self) -> dict[str, Job]:
        """Forget all jobs at once; returns them by id."""

    def __len__(self) -> int:
        """How many jobs are kept."""


class MemoryStore:
    """Jobs in a dictionary: gone with the process."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Keep a job whose id is new."""
        self._jobs[job.id] = job

    def get(self, job_id: str) -> Job | None:
        """The job, or None when it is unknown or gone."""
        return self._jobs.get(job_id)

    def remove(self, job_id: str) -> None:
        """Forget a job; one that is unknown is no error."""
        self._jobs.pop(job_id, None)

    def newest_first(self) -> Iterator[Job]:
        """All jobs, the last submitted first."""
        return reversed(self._jobs.values())

    def take_all(self) -> dict[str, Job]:
        """Forget all jobs at once; returns them by id."""
        jobs, self._jobs = self._jobs, {}
        return jobs

    def __len__(self) -> int:
        return len(self._jobs)
