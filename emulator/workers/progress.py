"""Progress updates of handlers that run in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class ProgressReports:
    """What `runpod.serverless.progress_update` is to a handler that was loaded into this process.

    The worker that runs a job registers who is to hear of it; a report for any other job has no effect.
    """

    def __init__(self) -> None:
        self._receivers: dict[str, Callable[[object], None]] = {}

    def update(self, job: Mapping[str, Any], progress: object) -> None:
        """Report `progress` (any JSON value) for the job the handler was given."""
        if receiver := self._receivers.get(job["id"]):
            receiver(progress)

    def receive(self, job_id: str, receiver: Callable[[object], None]) -> None:
        """Hear the progress of a job until `forget`. The receiver is called in the handler's thread."""
        self._receivers[job_id] = receiver

    def forget(self, job_id: str) -> None:
        """The job has ended."""
        self._receivers.pop(job_id, None)
