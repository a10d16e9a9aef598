"""The operations of an endpoint: what each takes from the request and answers (wire.md 2 to 4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from emulator.api import rate_limits
from emulator.api.exchange import Call, Reply, StreamedReply
from emulator.api.openai import door
from emulator.api.waiting import HINT_HEADER, wait_for_end
from emulator.clock.slices import in_slices
from emulator.core.job import JobStatus
from emulator.core.json_text import encode
from emulator.core.request import JobRequest
from emulator.core.status_body import status_body
from emulator.core.worker import WorkerState
from emulator.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from emulator.api.rate_limits import RateLimit
    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job

RUN_BODY_MIB = 10
RUNSYNC_BODY_MIB = 20
RUNSYNC_WAIT_MS = 90_000
#: Production holds an empty stream for 10 s, which is when the Python SDK gives up reading.
STREAM_WAIT_MS = 9_000
REQUESTS_PER_PAGE = 50
REQUESTS_PER_PAGE_MAX = 1_000


async def run(call: Call, endpoint: Endpoint) -> Reply:
    """Queue a job and answer at once."""
    job = endpoint.submit(
        JobRequest.parse(
            await call.body(RUN_BODY_MIB),
            endpoint.default_policy,
            ttl=call.ttl(),
            missing_input=endpoint.config.missing_input,
        )
    )
    call.job_id = job.id
    return _short(job, JobStatus.IN_QUEUE)


async def runsync(call: Call, endpoint: Endpoint) -> Reply:
    """Queue a job and wait for its end."""
    wait_ms = call.wait_ms(RUNSYNC_WAIT_MS)
    job = endpoint.submit(
        JobRequest.parse(
            await call.body(RUNSYNC_BODY_MIB),
            endpoint.default_policy,
            sync=True,
            ttl=call.ttl(),
            missing_input=endpoint.config.missing_input,
        )
    )
    call.job_id = job.id
    return await _ended(call, endpoint, job, wait_ms)


async def status(call: Call, endpoint: Endpoint) -> Reply:
    """A job as it stands."""
    return _full(endpoint, endpoint.get(call.job_id))


async def status_sync(call: Call, endpoint: Endpoint) -> Reply:
    """A job once it has ended, or as it stands after `?wait`."""
    wait_ms = call.wait_ms(RUNSYNC_WAIT_MS)
    job = endpoint.get(call.job_id)
    return await _ended(call, endpoint, job, wait_ms)


async def stream(call: Call, endpoint: Endpoint) -> Reply:
    """The chunks that have come since the last read."""
    wait_ms = call.wait_ms(STREAM_WAIT_MS)
    job = endpoint.get(call.job_id)
    reading = endpoint.read_stream(job, wait_ms)
    at_once = job.terminal or bool(job.chunks)
    job_status, chunks = await (reading if at_once else call.while_connected(reading))
    outputs = b",".join(b'{"output":%b}' % chunk for chunk in chunks)
    return Reply(200, b'{"status":"%b","stream":[%b]}' % (job_status.encode(), outputs))


async def cancel(call: Call, endpoint: Endpoint) -> Reply:
    """Cancel a job; one that has ended stays as it is."""
    job = endpoint.cancel(call.job_id)
    return _short(job, job.status)


async def retry(call: Call, endpoint: Endpoint) -> Reply:
    """Queue a failed job again."""
    return _short(endpoint.retry(call.job_id), JobStatus.IN_QUEUE)


async def purge_queue(_call: Call, endpoint: Endpoint) -> Reply:
    """Cancel every queued job."""
    removed = 0
    async for _ in in_slices(endpoint.purging()):
        removed += 1
    return Reply(200, encode({"removed": removed, "status": "completed"}))


async def health(_call: Call, endpoint: Endpoint) -> Reply:
    """How many jobs and workers are in each state."""
    return Reply(200, encode(endpoint.health()))


async def requests(call: Call, endpoint: Endpoint) -> Reply:
    """The jobs the endpoint knows, newest first."""
    offset = call.integer("offset", 0, 0, 10**9)
    limit = call.integer("limit", REQUESTS_PER_PAGE, 1, REQUESTS_PER_PAGE_MAX)
    jobs, total = await endpoint.search_jobs(offset=offset, limit=limit, status=_status_filter(call))
    more = b"true" if offset + len(jobs) < total else b"false"
    listed = b",".join(_listed(endpoint, job) for job in jobs)
    return Reply(
        200,
        b'{"requests":[%b],"total":%d,"offset":%d,"limit":%d,"hasMore":%b}'
        % (listed, total, offset, limit, more),
    )


async def metrics(_call: Call, endpoint: Endpoint) -> Reply:
    """How many workers are in each state, and which wait for a job."""
    counts = {state.value: count for state, count in endpoint.pool.counts().items()}
    ready = [worker.id for worker in endpoint.pool if worker.state is WorkerState.IDLE]
    return Reply(
        200, encode({"workers": dict(sorted({**counts, "ready": len(ready)}.items())), "readyWorkers": ready})
    )


@dataclass(slots=True, frozen=True, kw_only=True)
class Operation:
    """One operation: how it is asked for, and how often it may be."""

    answer: Callable[[Call, Endpoint], Awaitable[Reply | StreamedReply]]
    methods: tuple[str, ...]
    #: Its path ends with a job's id.
    names_job: bool = False
    #: Its path goes on as its clients like.
    any_path: bool = False
    limit: RateLimit | None = None


OPERATIONS: dict[str, Operation] = {
    "run": Operation(answer=run, methods=("POST",), limit=rate_limits.RUN),
    "runsync": Operation(answer=runsync, methods=("POST",), limit=rate_limits.RUNSYNC),
    "status": Operation(answer=status, methods=("GET", "POST"), names_job=True, limit=rate_limits.STATUS),
    "status-sync": Operation(
        answer=status_sync, methods=("GET", "POST"), names_job=True, limit=rate_limits.STATUS
    ),
    "stream": Operation(answer=stream, methods=("GET", "POST"), names_job=True, limit=rate_limits.STREAM),
    "cancel": Operation(answer=cancel, methods=("POST",), names_job=True, limit=rate_limits.CANCEL),
    "retry": Operation(answer=retry, methods=("POST",), names_job=True),
    "purge-queue": Operation(answer=purge_queue, methods=("POST",), limit=rate_limits.PURGE_QUEUE),
    "health": Operation(answer=health, methods=("GET",)),
    "metrics": Operation(answer=metrics, methods=("GET",)),
    "requests": Operation(answer=requests, methods=("GET",), limit=rate_limits.REQUESTS),
    "openai": Operation(answer=door.answer, methods=("GET", "POST"), any_path=True, limit=rate_limits.OPENAI),
}


async def _ended(call: Call, endpoint: Endpoint, job: Job, wait_ms: int) -> Reply:
    """The job once it has ended, or as it stands after `wait_ms`; sooner where it waits for a clock that is
    frozen: the answer then has a hint.
    """
    hint = "" if job.terminal else await call.while_connected(wait_for_end(endpoint, job, wait_ms))
    # Of one that has ended, the body does not depend on the time.
    body = status_body(job, endpoint.clock.now_ms() if job.ended_ms is None else job.ended_ms)
    if not hint:
        return Reply(200, body)
    return Reply(200, body, ((HINT_HEADER, " ".join(hint.split()).encode("ascii", "replace")),))


def _short(job: Job, job_status: JobStatus) -> Reply:
    return Reply(200, b'{"id":"%b","status":"%b"}' % (job.id.encode(), job_status.encode()))


def _full(endpoint: Endpoint, job: Job) -> Reply:
    return Reply(200, status_body(job, endpoint.clock.now_ms()))


def _listed(endpoint: Endpoint, job: Job) -> bytes:
    created = datetime.fromtimestamp(job.submitted_ms / 1000, UTC).isoformat(timespec="milliseconds")
    kind = "SYNC" if job.sync else "ASYNC"
    extra = encode({"createdAt": created.replace("+00:00", "Z"), "type": kind})
    return status_body(job, endpoint.clock.now_ms())[:-1] + b"," + extra[1:]


def _status_filter(call: Call) -> JobStatus | None:
    text = call.query.get("status") if call.query_string else None
    if text is None:
        return None
    if text not in JobStatus.__members__:
        raise InvalidRequest("?status", text, f"must be one of {', '.join(JobStatus)}")
    return JobStatus(text)
