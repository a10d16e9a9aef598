"""The worker's side of an endpoint over HTTP: what the SDK's worker loop calls (wire.md 7)."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from emulator.api.errors import error_reply, reply_to
from emulator.api.exchange import ClientGone, Reply
from emulator.clock.real_time import next_round
from emulator.core.gateway import Gateway
from emulator.core.json_text import NotJSON, encode
from emulator.core.result import MIB, JobResult
from emulator.errors import BodyTooLarge, JobNotFound, MalformedRequest, NotKept, WorkerGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from emulator.api.auth import Access
    from emulator.api.durability import Durability
    from emulator.api.exchange import Call
    from emulator.api.refused_workers import RefusedWorkers
    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job
    from emulator.core.result import ResultLimit

log = logging.getLogger("emulator.api")

#: How long a poll is held; the SDK gives up after 90 s, and many a proxy sooner.
POLL_HOLD_MS = 60_000
#: A worker that is told to go away asks again at once.
_GONE_HOLD_MS = 1_000
_BATCH_MAX = 1_000
#: The SDK looks ten times a second for jobs that have come, and drops a stop signal for one it has not
#: begun with: such a signal is held back for so many real ms.
_BEGUN_WITHIN_MS = 300
#: Of a body, bytes: of a larger one the server stops reading until it is asked for more.
_READ_AT_ONCE = 64 * 1024
#: The loop rounds from the end of a connection to the end of what was done for it.
_ROUNDS_TO_HANG_UP = 3
#: Real seconds before a worker hears that no job can be given to it.
_NOT_KEPT_PAUSE_S = 1.0
RESULT_BODY_MIB = 100
#: What an SDK is to put its own id in place of, and some leave.
_LEFT_IN_URLS = frozenset({"$ID", "$RUNPOD_POD_ID"})
_WORKER_ID_MAX = 100


class WorkerCall:
    """A request of a worker."""

    def __init__(self, call: Call, endpoint: Endpoint, ids: list[str], durability: Durability) -> None:
        self.call = call
        self.durability = durability
        self.endpoint = endpoint
        self.gateway = Gateway(endpoint)
        # A URL template without a `?` makes the SDK append its parameters to the path.
        *ids, last = ids
        last, _, parameters = last.partition("&")
        self._appended = dict(parse_qsl(parameters, keep_blank_values=True))
        worker_id, self.job_id = (*ids, last, "")[:2]
        self.worker_id = self._filled_in(worker_id)
        #: It comes from a worker that was started here, be it one that should be gone by now.
        self.is_ours = False

    def _filled_in(self, worker_id: str) -> str:
        """The worker's id; where its URL has a variable in its place, that of who holds the job."""
        if worker_id not in _LEFT_IN_URLS:
            return worker_id
        job_id = self.job_id or self.parameter("job_id").partition(",")[0]
        return self.gateway.holder_of(job_id) or worker_id

    def parameter(self, name: str, default: str = "") -> str:
        """A parameter of the URL."""
        return self._appended.get(name) or self.call.query.get(name, default)

    def result_limit(self) -> ResultLimit | None:
        """How large the result of the job that it is about may be; None when the job is no longer its own."""
        return self.gateway.result_limit(self.worker_id, self.job_id)

    async def fields(self) -> dict[str, Any]:
        """The JSON object in the body, whatever its content type says; NaN and Infinity are let through.

        :raises MalformedRequest: it is none.
        :raises BodyTooLarge: it is larger than any result may be.
        """
        limit = self.result_limit()
        body = await self.call.body(max(RESULT_BODY_MIB, 0 if limit is None else limit.mib))
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise MalformedRequest(f"bad request: body: not valid JSON: {error}") from error
        if not isinstance(fields, dict):
            raise MalformedRequest('bad request: body: must be a JSON object like {"output": …}')
        return fields


async def answer_worker(
    name: str,
    ids: list[str],
    call: Call,
    endpoint: Endpoint,
    access: Access,
    refused: RefusedWorkers,
    durability: Durability,
) -> Reply:
    """The answer to one of the calls named in `WORKER_CALLS`."""
    answer, id_count, methods = WORKER_CALLS[name]
    if len(ids) != id_count:
        return await refused.refuse(call, error_reply(404, f"no such operation: {call.path[:200]!r}"))
    asked = WorkerCall(call, endpoint, ids, durability)
    asked.is_ours = access.is_ours(asked.worker_id, asked.parameter("secret"))
    if (refusal := _refusal(asked, methods, access)) is not None:
        return await refused.refuse(call, refusal)
    try:
        with asked.gateway.contact(asked.worker_id, by_ping=name == "ping"):
            reply = await answer(asked)
            await durability.after(name, call, endpoint)
            return reply
    except NotKept as error:
        return reply_to(error)
    except WorkerGone:
        return error_reply(400, "worker is going away")
    except MalformedRequest as error:
        return error_reply(400, str(error))
    except NotJSON as error:
        endpoint.life.notice("warning", f"what it sent was refused: {error}", worker_id=asked.worker_id)
        return error_reply(400, f"bad request: body: {error}")


def _refusal(asked: WorkerCall, methods: tuple[str, ...], access: Access) -> Reply | None:
    """The answer to a call that is not let in."""
    authorization = asked.call.headers.get(b"authorization")
    if refusal := access.worker_refusal(asked.worker_id, asked.parameter("secret"), authorization):
        return error_reply(401, refusal)
    if not asked.worker_id.isprintable() or not 0 < len(asked.worker_id) <= _WORKER_ID_MAX:
        return error_reply(400, f"bad request: worker id: {asked.worker_id[:200]!r} cannot be one")
    if asked.call.method not in methods:
        return error_reply(405, f"{asked.call.method} is not allowed here: use {', '.join(methods)}")
    return None


async def job_take(asked: WorkerCall) -> Reply:
    """One job, or 204 when none has come for a while."""
    jobs = await _take(asked, 1)
    return Reply(200, _job_text(jobs[0])) if jobs else Reply(204, b"")


async def job_take_batch(asked: WorkerCall) -> Reply:
    """Up to `batch_size` jobs, or 204 when none has come for a while."""
    size = asked.parameter("batch_size", "1")
    # A number of any length is one; Python reads no more than some thousand digits.
    digits = size.lstrip("0")[:10] if size.isascii() and size.isdigit() else "1"
    limit = min(int(digits or "0"), _BATCH_MAX)
    jobs = await _take(asked, max(limit, 1), by_batch=True)
    return Reply(200, b"[" + b",".join(map(_job_text, jobs)) + b"]") if jobs else Reply(204, b"")


async def job_stop(asked: WorkerCall) -> Reply:
    """The ids of jobs to stop, or 204 when there were none for a while."""
    waiting = asked.gateway.next_stop_signals(asked.worker_id, hold_ms=POLL_HOLD_MS)
    try:
        job_ids = await asked.call.while_connected(waiting)
    except ClientGone:
        asked.gateway.hung_up(asked.worker_id)
        raise
    except WorkerGone:
        # It is going away, or has not asked for its first job yet. After this answer it pauses for a second.
        return Reply(204, b"")
    if not job_ids:
        return Reply(204, b"")
    if any(_has_just_begun(asked.endpoint, job_id) for job_id in job_ids):
        await next_round(_BEGUN_WITHIN_MS / 1000)
    return Reply(200, encode({"jobsToStop": job_ids}))


async def job_stream(asked: WorkerCall) -> Reply:
    """A chunk of a job's stream."""
    fields = await asked.fields()
    chunk_json, limit = encode(fields.get("output", fields), "chunk"), asked.result_limit()
    asked.gateway.push_chunk(asked.worker_id, asked.job_id, chunk_json)
    return _taken_within(limit, len(chunk_json))


async def job_done(asked: WorkerCall) -> Reply:
    """The end of a job, or how far it has come. The same result may come again."""
    gateway, worker_id, job_id = asked.gateway, asked.worker_id, asked.job_id
    limit = asked.result_limit()
    try:
        fields = await asked.fields()
    except BodyTooLarge:
        if limit is not None:
            gateway.finish(worker_id, job_id, limit.refusal(f"more than {RESULT_BODY_MIB} MB"))
        raise
    except MalformedRequest as error:
        gateway.finish(worker_id, job_id, JobResult(error=f"the worker's result was refused: {error}"))
        raise
    if fields.get("status") == "IN_PROGRESS":
        gateway.report_progress(worker_id, job_id, encode(fields.get("output"), "progress"))
        return Reply(200, b"{}")
    if advice := _on_result(fields):
        gateway.advise(worker_id, job_id, advice)
    try:
        result = _result(fields)
        gateway.finish(worker_id, job_id, result)
    except NotJSON as fault:
        # The SDK takes a 400 for final; production leaves such a job to its time-out.
        stop_worker = bool(fields.get("stopPod"))
        gateway.finish(worker_id, job_id, JobResult(error=str(fault), stop_worker=stop_worker))
        raise
    reply = _taken_within(limit, result.size)
    if reply.status == 200 and asked.parameter("then_take"):
        return await _with_next_job(asked, reply)
    return reply


async def _with_next_job(asked: WorkerCall, reply: Reply) -> Reply:
    """The answer to a result, with the next job in it where one waits: the runner of bare functions
    (`workers/runner.py`) then makes one call for a quick job, not two.

    Not where the job's move would have to be on disk first, or where the end of the connection may not have
    been read: such a worker asks, and is listened for meanwhile.
    """
    if asked.durability.is_kept or len(asked.call.body_read) > _READ_AT_ONCE:
        return reply
    for _ in range(_ROUNDS_TO_HANG_UP):
        await next_round()
    connection = asked.call.connection
    if connection is None or connection.is_closing():
        return reply
    job = asked.gateway.take_beside_result(asked.worker_id)
    return reply if job is None else Reply(200, _job_text(job))


async def ping(asked: WorkerCall) -> Reply:
    """A sign of life, with the jobs in progress; or a last one, of a worker that is unfit."""
    gateway, worker_id = asked.gateway, asked.worker_id
    if asked.parameter("status") == "unhealthy":
        check, reason = asked.parameter("check"), asked.parameter("reason")
        gateway.complain(worker_id, f"fitness check {check!r} failed: {reason}")
        return Reply(200, b"{}")
    named = [job_id for job_id in asked.parameter("job_id").split(",") if job_id]
    # The first ping comes before the first take, by which a worker makes itself known.
    with suppress(WorkerGone):
        gateway.heartbeat(
            worker_id,
            [*named, *gateway.just_delivered(worker_id)],
            # The end of a process is seen at once, whatever the clock says.
            missed_when_silent=not gateway.is_ours(worker_id),
        )
    return Reply(200, b"{}")


_GET, _POST = ("GET",), ("POST",)
#: How each call is answered, how many ids its path ends with, and its methods.
WORKER_CALLS: dict[str, tuple[Callable[[WorkerCall], Awaitable[Reply]], int, tuple[str, ...]]] = {
    "job-take": (job_take, 1, _GET),
    "job-take-batch": (job_take_batch, 1, _GET),
    "job-stop": (job_stop, 1, _GET),
    "job-stream": (job_stream, 2, _POST),
    "job-done": (job_done, 2, _POST),
    "ping": (ping, 1, _GET),
}


async def _take(asked: WorkerCall, limit: int, *, by_batch: bool = False) -> list[Job]:
    gateway, worker_id = asked.gateway, asked.worker_id
    if not asked.is_ours:
        gateway.meet(worker_id)
    elif gateway.is_leaving(worker_id):
        await asked.call.while_connected(gateway.linger(worker_id, _GONE_HOLD_MS))
        raise WorkerGone
    with gateway.contact(worker_id):
        taking = _taken(asked, limit, by_batch=by_batch)
        try:
            # A job must not be answered to a worker that has just hung up.
            return await asked.call.while_connected(taking, listen_at_once=True)
        except ClientGone:
            gateway.hung_up(worker_id)
            raise


async def _taken(asked: WorkerCall, limit: int, *, by_batch: bool) -> list[Job]:
    """Jobs for the worker; they go back to the queue if it hangs up as they come."""
    gateway, worker_id = asked.gateway, asked.worker_id
    in_progress = {"0": False, "1": True}.get(asked.parameter("job_in_progress") or "")
    jobs = await gateway.take(
        worker_id, limit=limit, hold_ms=POLL_HOLD_MS, in_progress=in_progress, by_batch=by_batch
    )
    try:
        for _ in range(_ROUNDS_TO_HANG_UP):
            await next_round()
        if jobs:
            await asked.durability.all_kept()
    except asyncio.CancelledError:
        gateway.hand_back(worker_id, [job.id for job in jobs])
        raise
    except NotKept:
        gateway.hand_back(worker_id, [job.id for job in jobs])
        # It asks again at once.
        await next_round(_NOT_KEPT_PAUSE_S)
        raise
    return jobs


def _taken_within(limit: ResultLimit | None, size: int) -> Reply:
    if limit is None or size <= limit.mib * MIB:
        return Reply(200, b"{}")
    return error_reply(400, f"bad request: body: exceeded max body size of {limit.mib}MiB")


def _has_just_begun(endpoint: Endpoint, job_id: str) -> bool:
    with suppress(JobNotFound):
        started_ms = endpoint.get(job_id).started_ms
        return started_ms is not None and endpoint.clock.now_ms() - started_ms < _BEGUN_WITHIN_MS
    return False


def _job_text(job: Job) -> bytes:
    return encode(job.payload(), "job")


def _on_result(fields: dict[str, Any]) -> str:
    """What is to be said of a result that is none; empty for one that is."""
    if "output" in fields or fields.get("error") or fields.get("stopPod"):
        return ""
    brought = ", ".join(sorted(fields))[:200]
    what = f"has {brought}, and neither output nor error" if brought else "is {}: the handler returned {}"
    return f"what the worker brought {what}; the job is COMPLETED without output, as in production"


def _result(fields: dict[str, Any]) -> JobResult:
    """The end of a job as the worker tells it.

    :raises NotJSON: it has NaN or Infinity, which only Python takes for JSON.
    """
    output_json = encode(fields["output"]) if "output" in fields else None
    stop_worker = bool(fields.get("stopPod"))
    if error := fields.get("error"):
        return JobResult.of_error(error, output_json=output_json, stop_worker=stop_worker)
    return JobResult(output_json=output_json, stop_worker=stop_worker)
