"""Progress updates of handlers that run in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: Hears the progress (any JSON value) of one job; called in the handler's thread.
Receiver = Callable[[object], None]


class ProgressReports:
    """What `runpod.serverless.progress_update` is to a handler that was loaded into this process.

    The worker that runs a job registers who is to hear of it; a report for any other job has no effect.
    """

    def __init__(self) -> None:
        #: By job, with the worker that runs it.
        self._receivers: dict[str, tuple[str, Receiver]] = {}

    def update(self, job: Mapping[str, Any], progress: object) -> None:
        """Report `progress` (any JSON value) for the job the handler was given."""
        _, receiver = self._receivers.get(job["id"], (None, None))
        if receiver is not None:
            receiver(progress)

    def receive(self, job_id: str, worker_id: str, receiver: Receiver) -> None:
        """Hear the progress of a job that a worker runs, until `forget`."""
        self._receivers[job_id] = worker_id, receiver

    def forget(self, job_id: str, worker_id: str) -> None:
        """The worker is done with the job; another that has begun with it since goes on."""
        running, _ = self._receivers.get(job_id, (None, None))
        if running == worker_id:
            del self._receivers[job_id]


#: Of all handlers here: a module of theirs that imports `runpod` is imported once, by whichever copy of a
#: handler is loaded first, and reports the progress of them all.
REPORTS = ProgressReports()
