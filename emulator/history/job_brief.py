"""A job in a few words: what a list of jobs shows of each, and what is told when it moves."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from emulator.core.job_error import explained
from emulator.masking import masked_body, masked_text

if TYPE_CHECKING:
    from emulator.core.job import Job, JobStatus

_PREVIEW_BYTES = 160
_HEADLINE_LENGTH = 300
_INPUT_FIRST = re.compile(r'\s*\{\s*"input"\s*:\s*')


#: What can be told of a job later, when it is another.
Seen: TypeAlias = tuple[
    str, "JobStatus", bool, str | None, str | None, int, int, int | None, int | None, int | None,
    int | None, int, str | None, bytes, bool,
]  # fmt: skip


def seen_of(job: Job) -> Seen:
    """Take down what a job is now. This is done at every step of every job."""
    body = job.body
    return (
        job.id, job.status, job.sync, job.again_of, job.worker_id, job.submitted_ms, job.queued_ms,
        job.started_ms, job.ended_ms, job.delay_ms, job.execution_ms, job.retries, job.error,
        body[:_PREVIEW_BYTES], len(body) <= _PREVIEW_BYTES,
    )  # fmt: skip


class JobBrief:
    """A job as it was when it was `seen`."""

    __slots__ = (
        "_begins", "_whole", "again_of", "delay_ms", "ended_ms", "endpoint_id", "error", "execution_ms", "id",
        "queued_ms", "retries", "started_ms", "status", "submitted_ms", "sync", "worker_id",
    )  # fmt: skip

    def __init__(self, endpoint_id: str, seen: Seen) -> None:
        self.endpoint_id = endpoint_id
        (
            self.id, self.status, self.sync, self.again_of, self.worker_id, self.submitted_ms, self.queued_ms,
            self.started_ms, self.ended_ms, self.delay_ms, self.execution_ms, self.retries, self.error,
            self._begins, self._whole,
        ) = seen  # fmt: skip

    @property
    def headline(self) -> str | None:
        """Its error in one line."""
        if self.error is None:
            return None
        told, _ = explained(self.error)
        return told if len(told) < _HEADLINE_LENGTH else f"{told[:_HEADLINE_LENGTH]}…"

    @property
    def preview(self) -> str:
        """How its input begins, as it was written; empty where the request begins with something else."""
        if self._whole:
            body = masked_body(self._begins)
            return json.dumps(body.get("input"), ensure_ascii=False) if isinstance(body, dict) else ""
        begins = masked_text(self._begins)
        found = _INPUT_FIRST.match(begins)
        if found is None:
            return ""
        return begins[found.end() :]

    def as_json(self) -> dict[str, Any]:
        """All of it; times in ms."""
        return {
            "id": self.id,
            "endpoint": self.endpoint_id,
            "status": self.status,
            "sync": self.sync,
            "worker_id": self.worker_id,
            "submitted_ms": self.submitted_ms,
            "queued_ms": self.queued_ms,
            "started_ms": self.started_ms,
            "ended_ms": self.ended_ms,
            "delay_ms": self.delay_ms,
            "execution_ms": self.execution_ms,
            "retries": self.retries,
            "again_of": self.again_of,
            "error": self.headline,
            "preview": self.preview,
        }
