"""What may interfere with production's rules, at the few points where that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from emulator.core.job import Job
    from emulator.core.worker import Worker


class Interference:
    """Asked at the points below, and obeyed. This one is production's: it never interferes.

    Whoever does (`scenario/fault_effects.py`) acts through the public methods of the endpoint and its pool.
    """

    def holds_back(self, job: Job) -> bool:
        """A job is to join the queue: whether it is kept out. `Endpoint.admit` lets it in later."""
        return False

    def held_back(self) -> Collection[Job]:
        """The jobs that are kept out of the queue now."""
        return ()

    def gives_beside(self, worker: Worker) -> list[Job]:
        """A worker asks for a job: those that it gets beside its own, and whose results nobody awaits."""
        return []

    def delivers(self, job: Job, worker: Worker) -> bool:
        """A job is now a worker's: whether the worker gets to see it."""
        return True

    def hands_on(self) -> bool:
        """A worker brings a result: whether it may get its next job with the answer, without asking."""
        return True

    def loses_result(self, job: Job, worker: Worker) -> bool:
        """A worker brings the result of a job: whether it does not arrive."""
        return False

    def loses_output(self, job: Job, worker: Worker) -> bool:
        """A worker brings the result of a job: whether it comes without what the handler returned."""
        return False

    def swallows_stop(self, job: Job, worker: Worker) -> bool:
        """A worker is to stop a job: whether it does not hear of it."""
        return False

    def silences(self, worker: Worker) -> bool:
        """A worker reports in: whether its heartbeats are not heard."""
        return False

    def delays_start(self, worker: Worker) -> bool:
        """A worker is to be started: whether it is not now. `WorkerPool.start_later` starts it."""
        return False

    def forget(self, worker: Worker) -> None:
        """A worker has gone, or is started anew: what was done to it is over."""


NO_INTERFERENCE = Interference()
