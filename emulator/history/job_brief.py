"""A job in a few words: what a list of jobs shows of each, and what is told when it moves."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from emulator.core.job_error import explained
from emulator.masking import masked_body, masked_text

if TYPE_CHECKING:
    from emulator.core.job import Job

_PREVIEW_BYTES = 160
_HEADLINE_LENGTH = 300
_INPUT_FIRST = re.compile(r'\s*\{\s*"input"\s*:\s*')


class JobBrief:
    """A job as it is now. One is made at every step of every job, so it only copies."""

    __slots__ = (
        "_begins", "_whole", "again_of", "delay_ms", "ended_ms", "endpoint_id", "error", "execution_ms", "id",
        "queued_ms", "retries", "started_ms", "status", "submitted_ms", "sync", "worker_id",
    )  # fmt: skip

    def __init__(self, endpoint_id: str, job: Job) -> None:
        self.id, self.endpoint_id, self.status = job.id, endpoint_id, job.status
        self.sync, self.again_of, self.worker_id = job.sync, job.again_of, job.worker_id
        self.submitted_ms, self.queued_ms = job.submitted_ms, job.queued_ms
        self.started_ms, self.ended_ms = job.started_ms, job.ended_ms
        self.delay_ms, self.execution_ms = job.delay_ms, job.execution_ms
        self.retries, self.error = job.retries, job.error
        self._begins = job.body[:_PREVIEW_BYTES]
        self._whole = len(job.body) <= _PREVIEW_BYTES

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
