"""A job as its clients see it: the body of /status, /runsync and webhooks (wire.md 3 and 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.core.job import JobStatus
from emulator.core.json_text import encode

if TYPE_CHECKING:
    from emulator.core.job import Job


def status_body(job: Job, now_ms: int) -> bytes:
    """The status body: each key once it is known, in alphabetical order."""
    parts = _parts(job, now_ms)
    if job.retries and job.status is not JobStatus.IN_QUEUE:
        parts.insert(-1, b'"retries":%d' % job.retries)
    if job.worker_id is not None:
        parts.append(b'"workerId":"%b"' % job.worker_id.encode())
    return b"{" + b",".join(parts) + b"}"


def webhook_body(job: Job) -> bytes:
    """The body a webhook receives at the job's end: `input` and `webhook` beside what both bodies have.

    Production sends neither `workerId` nor `retries` here (wire.md 5).
    """
    assert job.ended_ms is not None
    parts = _parts(job, job.ended_ms)
    parts.append(b'"input":' + encode(job.input))
    parts.append(b'"webhook":' + encode(job.webhook))
    return b"{" + b",".join(sorted(parts)) + b"}"


def _parts(job: Job, now_ms: int) -> list[bytes]:
    """Each key that both bodies have, with its value as JSON text; `status` is the last."""
    parts: list[bytes] = []
    if job.delay_ms is not None:
        parts.append(b'"delayTime":%d' % job.delay_ms)
    if job.error is not None:
        parts.append(b'"error":' + encode(job.error))
    if job.execution_ms is not None:
        parts.append(b'"executionTime":%d' % job.execution_ms)
    elif job.output_json is not None and job.started_ms is not None:
        # Progress so far.
        parts.append(b'"executionTime":%d' % (now_ms - job.started_ms))
    parts.append(b'"id":"%b"' % job.id.encode())
    if job.output_json is not None:
        parts.append(b'"output":' + job.output_json)
    parts.append(b'"status":"%b"' % job.status.encode())
    return parts
