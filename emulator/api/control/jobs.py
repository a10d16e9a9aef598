"""All jobs of all endpoints, as they stand and as they came there."""

from __future__ import annotations

import heapq
import json
from contextlib import suppress
from itertools import islice, repeat
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from emulator.api.control.given import Given
from emulator.api.control.job_bodies import (
    JobBriefs,
    JobExport,
    JobFilter,
    JobPage,
    JobsView,
    JobView,
    JobWait,
    PartialOutputs,
    RunAgain,
    Timeline,
)
from emulator.api.control.replies import json_of, list_of, object_of, reply
from emulator.api.har import har
from emulator.core.job import JobStatus
from emulator.core.json_text import encode
from emulator.core.waiting import wait_of
from emulator.errors import JobNotFound
from emulator.history.job_brief import JobBrief, seen_of
from emulator.history.journal import EntryFilter, EntryKind
from emulator.history.timeline import drawn, timeline
from emulator.masking import masked_url, masked_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.api.control.controls import Controls
    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job

_LISTED = 100
#: How many jobs are looked at for one page of those that are wanted.
_WALKED_MAX = 50_000
_EXPORTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "application/jsonl": {}}}
}


Count = Annotated[int, Query(ge=0, le=1_000_000)]


router = APIRouter()


@router.get("/jobs", response_model=JobsView)
async def jobs(
    controls: Given,
    endpoint: str | None = None,
    status: JobStatus | None = None,
    limit: Count = _LISTED,
    offset: Count = 0,
) -> Response:
    """Jobs, newest first, with those that timed out; of one endpoint, or of all, one after the other."""
    asked = controls.endpoints.values() if endpoint is None else [controls.endpoint(endpoint)]
    found: list[bytes] = []
    total = 0
    for each in asked:
        listed, count = await each.search_jobs(
            offset=offset, limit=max(0, limit - len(found)), status=status, with_timed_out=True
        )
        found += [_view(each, job) for job in listed]
        total += count
    return reply(object_of({"total": total}, jobs=list_of(found)))


@router.get("/jobs/list", response_model=JobBriefs)
async def briefs(controls: Given, wanted: Annotated[JobPage, Query()]) -> Response:
    """Jobs of all endpoints in a few words, newest first, as far as they are wanted; `next` begins the
    next page.
    """
    found, onward = _found(controls, wanted)
    total = sum(each.job_count for each in controls.endpoints.values())
    listed = [json_of(JobBrief(endpoint.id, seen_of(job)).as_json) for endpoint, job in found]
    return reply(object_of({"next": onward, "total": total}, jobs=list_of(listed)))


@router.get("/jobs/export", response_model=None, responses=_EXPORTS)
async def export(controls: Given, wanted: Annotated[JobExport, Query()]) -> Response:
    """Jobs in full, as far as they are wanted: a line of JSON each, or their calls as HAR."""
    found = list(_walked(controls, wanted))
    if wanted.format == "har":
        ids = {job.id for _, job in found}
        calls = controls.journal.find(EntryFilter(kind=EntryKind.API))
        return reply(await har(call for call in calls if call.job_id in ids))
    lines = b"".join(_view(endpoint, job) + b"\n" for endpoint, job in found)
    return Response(lines, media_type="application/jsonl")


@router.get("/jobs/{job_id}", response_model=JobView)
async def job(controls: Given, job_id: str) -> Response:
    """One job."""
    return reply(_view(*controls.find_job(job_id)))


@router.get("/jobs/{job_id}/timeline")
async def job_timeline(controls: Given, job_id: str) -> Timeline:
    """What has happened to a job, a line each, as far as the journal goes back."""
    return Timeline(lines=timeline(controls.journal, job_id), **_drawn(controls, job_id))


@router.get("/jobs/{job_id}/output", response_model=PartialOutputs)
async def job_output(controls: Given, job_id: str) -> Response:
    """The chunks and the progress that a job has sent, as far as the journal goes back. Other than
    /stream it takes nothing away from those who read that.
    """
    entries = controls.journal.find(EntryFilter(kind=EntryKind.OUTPUT, job_id=job_id))
    return reply(encode({"outputs": [{"at_ms": each.at_ms, **each.details()} for each in entries]}))


@router.post("/jobs/{job_id}/run-again", response_model=JobView)
async def run_again(controls: Given, job_id: str, again: RunAgain | None = None) -> Response:
    """Submit a job's request once more, or another in its place; the new job tells what it repeats."""
    endpoint, job = controls.find_job(job_id)
    request = None if again is None or again.request is None else encode(again.request)
    return reply(_view(endpoint, endpoint.run_again(job, request)))


@router.post("/jobs/{job_id}/wait", response_model=JobView)
async def wait(controls: Given, job_id: str, request: JobWait, client: Request) -> Response:
    """Wait, in real time, for the end of a job; answers with the job as it then stands."""
    endpoint, job = controls.find_job(job_id)
    await controls.waits.until(
        endpoint.wait(job, None), timeout_ms=request.timeout_ms, receive=client.receive
    )
    return reply(_view(endpoint, job))


def _walked(controls: Controls, wanted: JobFilter) -> Iterator[tuple[Endpoint, Job]]:
    """The jobs that are wanted, newest first."""
    return ((endpoint, job) for endpoint, job in _newest_first(controls, wanted) if _is_wanted(wanted, job))


def _newest_first(controls: Controls, wanted: JobFilter) -> Iterator[tuple[Endpoint, Job]]:
    asked = controls.endpoints.values() if wanted.endpoint is None else [controls.endpoint(wanted.endpoint)]
    listings = [zip(repeat(each), each.newest_jobs(), strict=False) for each in asked]
    every = listings[0] if len(listings) == 1 else heapq.merge(*listings, key=lambda of: -of[1].submitted_ms)
    return islice(every, wanted.offset, None)


def _found(controls: Controls, wanted: JobPage) -> tuple[list[tuple[Endpoint, Job]], int | None]:
    """A page of the jobs that are wanted, and where the next begins (None at the end)."""
    found: list[tuple[Endpoint, Job]] = []
    for number, (endpoint, job) in enumerate(_newest_first(controls, wanted)):
        if len(found) == wanted.limit or number == _WALKED_MAX:
            return found, wanted.offset + number
        if _is_wanted(wanted, job):
            found.append((endpoint, job))
    return found, None


def _is_wanted(wanted: JobFilter, job: Job) -> bool:
    return (
        (not wanted.status or job.status in wanted.status)
        and (wanted.id is None or wanted.id in job.id)
        and (wanted.worker is None or job.worker_id == wanted.worker)
        and (wanted.text is None or wanted.text.encode() in job.body)
    )


def _drawn(controls: Controls, job_id: str) -> dict[str, Any]:
    for endpoint in controls.endpoints.values():
        with suppress(JobNotFound):
            return drawn(controls.journal, endpoint.look_up(job_id))
    # It has been forgotten; the lines may be left.
    return {"attempts": [], "marks": []}


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
            "webhook": None if job.webhook is None else masked_url(job.webhook),
            "worker_id": job.worker_id,
            "submitted_ms": job.submitted_ms,
            "started_ms": job.started_ms,
            "ended_ms": job.ended_ms,
            "delay_ms": job.delay_ms,
            "execution_ms": job.execution_ms,
            "sync": job.sync,
            "again_of": job.again_of,
            "waiting_for": None if wait is None else wait.told,
            "waits_endlessly": wait is not None and wait.endless,
        },
        input=json_of(lambda: masked_value(job.input)),
        policy=json_of(lambda: json.loads(job.body).get("policy")),
        output=b"null" if job.output_json is None else job.output_json,
    )
