"""A call of an OpenAI route: its job, and what the job brings as an OpenAI answer (wire.md 4)."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from emulator.api.exchange import WAIT_MAX_MS, Call, ClientGone, Reply, StreamedReply
from emulator.api.openai.errors import failure_of, openai_error, reported_error
from emulator.api.openai.event_text import KEEP_ALIVE, EventText
from emulator.api.waiting import wait_for_end
from emulator.core.job import JobStatus
from emulator.core.json_text import encode
from emulator.core.request import JobRequest, parse_object
from emulator.core.waiting import why_waiting
from emulator.errors import InvalidRequest, JobNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job

BODY_MIB = 20
#: For how long a call waits for a worker to take its job; as long as any other call may wait.
NO_WORKER_MS = WAIT_MAX_MS
#: For how long the head of a stream is held back: until then an error still has a status of its own.
HEAD_WAIT_MS = 30_000
#: A stream that is silent for so long says that it is alive.
KEEP_ALIVE_MS = 15_000


async def answer(call: Call, endpoint: Endpoint) -> Reply | StreamedReply:
    """Have a worker answer a call of an OpenAI client; one that hangs up cancels its job."""
    call.job_id = ""
    body = await call.body(BODY_MIB) if call.method == "POST" else b""
    fields = parse_object(body) if body.strip() else {}
    streams = fields.get("stream")
    if streams is not None and not isinstance(streams, bool):
        raise InvalidRequest("stream", streams, "must be true or false")
    job = endpoint.submit(_request(_route(call), body.strip(), endpoint))
    call.job_id = job.id
    try:
        if streams:
            return await call.while_connected(_stream(endpoint, job))
        return await call.while_connected(_whole(endpoint, job))
    except ClientGone:
        abandon(endpoint, job)
        raise


def abandon(endpoint: Endpoint, job: Job) -> None:
    """Nobody waits for a job any more: end it, if it has not ended."""
    with suppress(JobNotFound):
        endpoint.cancel(job.id)


def _route(call: Call) -> str:
    """The path behind `/openai`, with its leading slash."""
    return "/" + call.path.partition("/openai")[2].lstrip("/")


def _request(route: str, body: bytes, endpoint: Endpoint) -> JobRequest:
    """The job's request: the client's body goes into it as it came."""
    openai_input = b',"openai_input":' + body if body else b""
    request = b'{"input":{"openai_route":' + encode(route) + openai_input + b"}}"
    return JobRequest.parse(request, endpoint.default_policy, sync=True)


async def _whole(endpoint: Endpoint, job: Job) -> Reply:
    hint = await wait_for_end(endpoint, job, NO_WORKER_MS)
    if _not_taken(job):
        return _no_worker(endpoint, job)
    while not hint and not job.terminal:
        hint = await wait_for_end(endpoint, job, NO_WORKER_MS)
    if hint:
        abandon(endpoint, job)
        return openai_error(503, f"job {job.id} does not end: {hint}")
    if job.status is not JobStatus.COMPLETED:
        return failure_of(job)
    return _body_of(job)


def _body_of(job: Job) -> Reply:
    """What a completed job's worker returned, or yielded last."""
    value = job.output
    if job.chunks:
        value = json.loads(job.chunks[-1])
    elif isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value == []:
        return openai_error(500, f"job {job.id} completed without an output", code="no_output")
    if (error := reported_error(value)) is not None:
        return error
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        # A body that the worker has written out by itself.
        with suppress(ValueError, RecursionError):
            json.loads(value)
            return Reply(200, value.encode())
    return Reply(200, encode(value))


async def _stream(endpoint: Endpoint, job: Job) -> Reply | StreamedReply:
    """Hold the head until there is something to send, as until then an error can be an error's answer."""
    status, chunks = await endpoint.read_stream(job, HEAD_WAIT_MS)
    if chunks and (error := reported_error(json.loads(chunks[0]))) is not None:
        abandon(endpoint, job)
        return error
    if not chunks and job.terminal:
        if status is not JobStatus.COMPLETED:
            return failure_of(job)
        if (error := reported_error(_only(job.output))) is not None:
            return error
    return StreamedReply(_events(endpoint, job, chunks), partial(abandon, endpoint, job))


async def _events(endpoint: Endpoint, job: Job, chunks: list[bytes]) -> AsyncGenerator[bytes]:
    text = EventText()
    retries = 0
    while True:
        if not text.begun:
            retries = job.retries
        elif job.retries != retries:
            # What its next worker yields begins from the start.
            yield text.of_error(openai_error(500, "the worker was lost while it streamed").body)
            return
        if chunks:
            if piece := b"".join(text.of_chunk(chunk) for chunk in chunks):
                yield piece
        elif job.terminal:
            yield _last(job, text)
            return
        elif _not_taken(job) and endpoint.clock.now_ms() - job.submitted_ms >= NO_WORKER_MS:
            yield text.of_error(_no_worker(endpoint, job).body)
            return
        elif text.between_events:
            yield KEEP_ALIVE
        _, chunks = await endpoint.read_stream(job, KEEP_ALIVE_MS)


def _last(job: Job, text: EventText) -> bytes:
    """What is to be sent once a job has ended and its chunks have been."""
    if job.status is not JobStatus.COMPLETED:
        return text.of_error(failure_of(job).body)
    if text.begun or job.output is None:
        return text.end()
    # A handler that does not stream, asked for a stream.
    output = _only(job.output)
    if (error := reported_error(output)) is not None:
        return text.of_error(error.body)
    return text.of_chunk(encode(output)) + text.end()


def _only(output: Any) -> Any:
    return output[0] if isinstance(output, list) and len(output) == 1 else output


def _not_taken(job: Job) -> bool:
    return job.status is JobStatus.IN_QUEUE and not job.retries


def _no_worker(endpoint: Endpoint, job: Job) -> Reply:
    why = why_waiting(endpoint, job)
    abandon(endpoint, job)
    waited_s = (endpoint.clock.now_ms() - job.submitted_ms) / 1000
    return openai_error(503, f"no worker has taken the request within {waited_s:.0f} s: {why}")
