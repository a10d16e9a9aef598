"""All jobs of all endpoints, as they stand and as they came there."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from emulator.api.control.bodies import JobsView, JobView, JobWait, Timeline
from emulator.api.control.replies import json_of, list_of, object_of, reply
from emulator.core.job import JobStatus
from emulator.core.waiting import wait_of
from emulator.history.journal import timeline

if TYPE_CHECKING:
    from emulator.api.control.controls import Controls
    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job

_LISTED = 100
Count = Annotated[int, Query(ge=0, le=1_000_000)]


def add_jobs(router: APIRouter, controls: Controls) -> None:
    """`/jobs`."""

    @router.get("/jobs", response_model=JobsView)
    async def jobs(
        endpoint: str | None = None,
        status: JobStatus | None = None,
        limit: Count = _LISTED,
        offset: Count = 0,
    ) -> Response:
        """Jobs, newest first; of one endpoint, or of all, one after the other."""
        asked = controls.endpoints.values() if endpoint is None else [controls.endpoint(endpoint)]
        found: list[bytes] = []
        total = 0
        for each in asked:
            listed, count = each.list_jobs(offset=offset, limit=max(0, limit - len(found)), status=status)
            found += [_view(each, job) for job in listed]
            total += count
        return reply(object_of({"total": total}, jobs=list_of(found)))

    @router.get("/jobs/{job_id}", response_model=JobView)
    async def job(job_id: str) -> Response:
        """One job."""
        return reply(_view(*controls.find_job(job_id)))

    @router.get("/jobs/{job_id}/timeline")
    async def job_timeline(job_id: str) -> Timeline:
        """What has happened to a job, a line each, as far as the journal goes back."""
        return Timeline(lines=timeline(controls.journal, job_id))

    @router.post("/jobs/{job_id}/wait", response_model=JobView)
    async def wait(job_id: str, request: JobWait) -> Response:
        """Wait, in real time, for the end of a job; answers with the job as it then stands."""
        endpoint, job = controls.find_job(job_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(request.timeout_ms / 1000):
                await endpoint.wait(job, None)
        return reply(_view(endpoint, job))


def _view(endpoint: Endpoint, job: Job) -> bytes:
    """A `JobView` as JSON text."""
    wait = wait_of(endpoint, job)
    return object_of(
        {
            "id": job.id,
            "endpoint": endpoint.id,
            "status": job.status,
            "error": job.error,
            "retries": job.retries,
            "webhook": job.webhook,
            "worker_id": job.worker_id,
            "submitted_ms": job.submitted_ms,
            "started_ms": job.started_ms,
            "ended_ms": job.ended_ms,
            "delay_ms": job.delay_ms,
            "execution_ms": job.execution_ms,
            "sync": job.sync,
            "waiting_for": None if wait is None else wait.told,
            "waits_endlessly": wait is not None and wait.endless,
        },
        input=json_of(lambda: job.input),
        policy=json_of(lambda: json.loads(job.body).get("policy")),
        output=b"null" if job.output_json is None else job.output_json,
    )
