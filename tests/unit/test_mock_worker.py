"""The built-in handler does what its input says, on the emulator's clock."""

import json

import pytest

from emulator.clock.clock import VirtualClock
from emulator.workers.mock_worker import mock_worker
from tests.unit.inline_stage import inline_stage

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stage():
    clock = VirtualClock(start_ms=0)
    async with inline_stage(mock_worker(clock), clock=clock) as stage:
        yield stage


@pytest.mark.parametrize("input", ["hi", 5, ["mock_return"], {"prompt": "hi"}])
async def test_it_greets_whoever_wishes_nothing(stage, input):
    job = await stage.run(input)
    assert (job.status, job.output) == ("COMPLETED", "Hello World!")


@pytest.mark.parametrize("value", [{"a": [1]}, "text", 0, False, None, [], {}])
async def test_it_returns_what_it_is_asked_for(stage, value):
    job = await stage.run({"mock_return": value})
    assert job.status == "COMPLETED"
    assert job.output == (None if value == {} else value)


async def test_it_takes_the_time_it_is_asked_for(stage):
    job = stage.submit({"mock_delay": 2.5})
    await stage.clock.advance(2_499)
    assert job.status == "IN_PROGRESS"
    await stage.clock.advance(1)
    assert (job.status, job.execution_ms) == ("COMPLETED", 2_500)


async def test_it_spreads_its_progress_over_that_time(stage):
    job = stage.submit({"mock_delay": 3, "mock_progress": ["a", {"b": 1}, "c"]})
    seen = []
    for _ in range(3):
        await stage.clock.settle()
        seen.append(job.output)
        await stage.clock.advance(1_000)
    assert seen == ["a", {"b": 1}, "c"]
    assert (job.status, job.output, job.execution_ms) == ("COMPLETED", "Hello World!", 3_000)


async def test_it_knows_the_vendors_form_of_progress(stage):
    job = stage.submit({"mock_progress": {"updates": ["a", "b"], "wait_time": 2}})
    await stage.clock.advance(1_999)
    assert job.output is None
    await stage.clock.advance(1)
    assert job.output == "a"
    await stage.clock.advance(2_000)
    assert (job.status, job.execution_ms) == ("COMPLETED", 4_000)


async def test_progress_comes_after_the_delay(stage):
    job = stage.submit({"mock_delay": 3, "mock_progress": {"updates": ["a"], "wait_time": 2}})
    await stage.clock.advance(4_999)
    assert job.output is None
    await stage.clock.advance(1)
    assert (job.status, job.execution_ms) == ("COMPLETED", 5_000)


@pytest.mark.parametrize("argument", ["--generator", "--async_generator"])
async def test_as_a_generator_it_streams_the_parts_each_after_the_delay(argument):
    clock = VirtualClock(start_ms=0)
    worker = mock_worker(clock, arguments=[argument, "--return_aggregate_stream", "--other"])
    async with inline_stage(worker, clock=clock) as stage:
        job = stage.submit({"mock_return": ["a", {"b": 1}], "mock_delay": 2})
        await clock.advance(1_999)
        assert not job.chunks
        await clock.advance(1)
        assert list(job.chunks) == [b'"a"']
        await clock.advance(2_000)
        assert (job.status, job.output, job.execution_ms) == ("COMPLETED", ["a", {"b": 1}], 4_000)


async def test_as_a_generator_it_does_not_put_its_chunks_into_the_output():
    clock = VirtualClock(start_ms=0)
    async with inline_stage(mock_worker(clock, arguments=["--generator"]), clock=clock) as stage:
        job = await stage.run()
        assert (job.status, job.output) == ("COMPLETED", [])


async def test_its_result_gets_lost_and_its_worker_goes_on(stage):
    job = await stage.run({"mock_external": {"error_job_return": True}})
    assert (job.status, job.error) == ("FAILED", "job timed out after 1 retries")
    assert (await stage.run()).worker_id == job.worker_id


async def test_progress_needs_no_delay(stage):
    job = await stage.run({"mock_progress": ["a", "b"]})
    assert (job.status, job.execution_ms) == ("COMPLETED", 0)


async def test_it_raises(stage):
    job = await stage.run({"mock_error": True})
    assert (job.status, json.loads(job.error)["error_message"]) == ("FAILED", "Mock error")
    job = await stage.run({"mock_error": "out of memory"})
    assert json.loads(job.error)["error_message"] == "out of memory"
    job = await stage.run({"mock_error": False})
    assert job.status == "COMPLETED"


async def test_it_raises_after_its_delay(stage):
    job = stage.submit({"mock_error": True, "mock_delay": 1})
    await stage.clock.advance(1_000)
    assert (job.status, job.execution_ms) == ("FAILED", 1_000)


async def test_it_kills_its_worker(stage):
    job = stage.submit({"mock_crash": True})
    await stage.clock.settle()
    assert (job.status, job.retries, stage.workers()) == ("IN_QUEUE", 1, {"unhealthy": 1})
    await stage.clock.advance(1_000)
    assert (job.status, job.error) == ("FAILED", "job timed out after 1 retries")


async def test_it_has_its_worker_replaced(stage):
    first = await stage.run({"mock_refresh": True, "mock_return": 7})
    second = await stage.run()
    assert first.status == "COMPLETED"
    assert first.output == {"mock_return": 7}
    assert first.worker_id != second.worker_id


async def test_it_logs(stage, caplog):
    caplog.set_level("INFO", logger="emulator.workers")
    job = await stage.run({"mock_logs": ["one", "two"]})
    assert [record.getMessage() for record in caplog.records] == [f"job {job.id}: one", f"job {job.id}: two"]


@pytest.mark.parametrize("wish", [{"mock_delay": "soon"}, {"mock_delay": [1]}, {"mock_delay": {"s": 1}}])
async def test_a_wish_it_cannot_read_fails_the_job(stage, wish):
    assert (await stage.run(wish)).status == "FAILED"


@pytest.mark.parametrize("wish", [{"mock_delay": -5}, {"mock_delay": "1e400"}])
async def test_a_delay_that_makes_no_sense_does_not_hang(stage, wish):
    assert (await stage.run(wish)).terminal
