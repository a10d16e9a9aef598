"""What a user of the Python SDK's `runpod.AsyncioEndpoint` and `runpod.AsyncioJob` sees."""

import aiohttp
import pytest
import runpod
from anyio import to_thread

from tests.conformance.health import health
from tests.conformance.served import KEY, on_frozen_clock
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio


@pytest.fixture
async def endpoint(emulator, monkeypatch):
    """Makes the SDK's endpoints, which take their URL from the module."""
    monkeypatch.setattr(runpod, "endpoint_url_base", emulator.base_url)
    monkeypatch.setattr(runpod, "api_key", KEY)
    async with aiohttp.ClientSession() as session:
        yield lambda endpoint_id, **options: runpod.AsyncioEndpoint(endpoint_id, session, **options)


async def test_a_job_from_its_start_to_its_end(endpoint, gate):
    job = await endpoint("gate").run(gate.input)
    assert isinstance(job, runpod.AsyncioJob)
    await to_thread.run_sync(gate.meet)
    assert await job.status() == "IN_PROGRESS"
    await to_thread.run_sync(gate.open)
    assert await job.output(timeout=PATIENCE_S) == ["before", "after"]
    assert await job.status() == "COMPLETED"


async def test_the_input_arrives_untouched(endpoint):
    value = {"prompt": "größe 🐍", "n": 0.5, "nested": [None, {"deep": True}]}
    job = await endpoint("echo").run(value)
    assert await job.output(timeout=PATIENCE_S) == value


async def test_a_job_that_waits_in_the_queue(endpoint):
    job = await endpoint("cold").run({"n": 1})
    assert await job.status() == "IN_QUEUE"
    with pytest.raises(TimeoutError, match="Job timed out"):
        await job.output(timeout=1)


async def test_chunks_are_streamed_while_the_job_runs(endpoint, gate):
    job = await endpoint("gate").run(gate.input)
    chunks = job.stream()
    assert await anext(chunks) == "before"
    assert await job.status() == "IN_PROGRESS"
    await to_thread.run_sync(gate.open)
    assert [chunk async for chunk in chunks] == ["after"]


async def test_a_handler_that_does_not_stream_has_an_empty_stream(endpoint):
    job = await endpoint("echo").run({"n": 1})
    assert [chunk async for chunk in job.stream()] == []
    assert await job.output(timeout=PATIENCE_S) == {"n": 1}


async def test_cancelling_a_queued_job(endpoint):
    job = await endpoint("cold").run({"n": 1})
    assert await job.cancel() == {"id": job.job_id, "status": "CANCELLED"}
    assert await job.status() == "CANCELLED"


async def test_cancelling_a_running_job(endpoint, gate):
    job = await endpoint("gate").run(gate.input)
    await to_thread.run_sync(gate.meet)
    assert await job.cancel() == {"id": job.job_id, "status": "CANCELLED"}
    assert await job.status() == "CANCELLED"


async def test_jobs_that_fail(endpoint):
    raising = await endpoint("failing").run({"how": "raise"})
    returning = await endpoint("failing").run({"how": "return"})
    assert await raising.output(timeout=PATIENCE_S) is None
    assert await raising.status() == "FAILED"
    assert await returning.output(timeout=PATIENCE_S) == {"longest_allowed": 2048}
    assert await returning.status() == "FAILED"


@on_frozen_clock
async def test_a_job_that_takes_longer_than_the_endpoint_allows(emulator, endpoint, gate):
    job = await endpoint("gate").run(gate.input)
    await to_thread.run_sync(gate.meet)
    await to_thread.run_sync(emulator.advance, 600_000)
    assert await job.status() == "FAILED"


async def test_health(endpoint):
    await endpoint("cold").run({"n": 1})
    assert await endpoint("cold").health() == health({"inQueue": 1}, {"initializing": 1})


async def test_purging_the_queue(endpoint):
    jobs = [await endpoint("cold").run({"n": n}) for n in range(2)]
    assert await endpoint("cold").purge_queue() == {"removed": 2, "status": "completed"}
    assert [await job.status() for job in jobs] == ["CANCELLED", "CANCELLED"]


async def test_a_wrong_key_gives_an_error_body_which_this_client_does_not_look_at(endpoint):
    stranger = endpoint("echo", api_key="a-wrong-key")
    error = await stranger.health()
    assert (error["status"], error["title"]) == (401, "Unauthorized")
    with pytest.raises(KeyError, match="'id'"):
        await stranger.run({"n": 1})
