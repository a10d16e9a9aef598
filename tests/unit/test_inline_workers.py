"""What a handler returns, yields, raises and reports arrives as the SDK would bring it (wire.md 3 and 7)."""

import functools
import json
import sys
import threading

import pytest

from emulator.clock.clock import VirtualClock
from emulator.workers.handler import Handler, HandlerError
from emulator.workers.inline_worker import InlineWorker
from emulator.workers.progress import REPORTS
from tests.unit.inline_stage import inline_stage

pytestmark = pytest.mark.anyio


def as_sync(value_of):
    def handler(job):
        return value_of(job)

    return handler


def as_async(value_of):
    async def handler(job):
        return value_of(job)

    return handler


def as_sync_returning_a_coroutine(value_of):
    return lambda job: as_async(value_of)(job)


def as_object(value_of):
    class Handles:
        async def __call__(self, job):
            return value_of(job)

    return Handles()


def as_partial(value_of):
    return functools.partial(lambda prefix, job: value_of(job), "prefix")


every_way = pytest.mark.parametrize(
    "way", [as_sync, as_async, as_sync_returning_a_coroutine, as_object, as_partial]
)


def generator(*chunks):
    def handler(job):
        yield from chunks

    return handler


def async_generator(*chunks):
    async def handler(job):
        for chunk in chunks:
            yield chunk

    return handler


every_stream = pytest.mark.parametrize("stream_of", [generator, async_generator])


def outcome(job):
    return (job.status, job.output, job.error)


class Mute(Exception):
    """Its own way of saying what it is fails."""

    def __str__(self):
        return 5


@pytest.mark.parametrize("form", ["sync", "async", "coroutine", "generator", "async generator"])
async def test_an_exception_that_cannot_say_what_it_is_fails_its_job_at_once(form):
    """It ended the worker without a word, and the job 10 minutes later (attack.md 5)."""

    def sync(job):
        raise Mute

    async def asynchronous(job):
        raise Mute

    def stream(job):
        raise Mute
        yield

    async def async_stream(job):
        raise Mute
        yield

    handlers = {
        "sync": sync,
        "async": asynchronous,
        "coroutine": lambda job: asynchronous(job),
        "generator": stream,
        "async generator": async_stream,
    }
    async with inline_stage(handlers[form]) as stage:
        job = await stage.run()
        assert (job.status, job.retries) == ("FAILED", 0)
        assert "<its message cannot be shown: TypeError>" in job.error
        assert stage.workers() == {"idle": 1}


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_a_worker_whose_own_code_fails_is_told_of_and_replaced(form, monkeypatch, caplog):
    """Its tasks died without a word, and its job ended 10 minutes later (attack.md 4)."""
    monkeypatch.setattr(InlineWorker, "_finish", lambda *_: 1 / 0)
    async with inline_stage((as_async if form == "async" else as_sync)(str), workers_max=1) as stage:
        job = stage.submit()
        await stage.until(lambda: stage.workers() == {"unhealthy": 1})
        monkeypatch.undo()
        assert "ZeroDivisionError" in caplog.text
        await stage.clock.advance(1_000)
        assert ((await stage.ended(job)).status, job.retries) == ("COMPLETED", 1)


# Returned


@every_way
async def test_what_is_returned_is_the_output(way):
    async with inline_stage(way(lambda job: {"echo": job["input"], "id": job["id"]})) as stage:
        job = await stage.run({"n": 2**70})
        assert outcome(job) == ("COMPLETED", {"echo": {"n": 2**70}, "id": job.id}, None)


@every_way
async def test_the_handler_gets_everything_that_was_submitted(way):
    async with inline_stage(way(lambda job: job)) as stage:
        request = {"input": [1], "s3Config": {"bucketName": "b"}, "webhook": "http://x.example/"}
        job = await stage.ended(stage.endpoint.submit(request))
        assert job.output == {**request, "id": job.id}


@pytest.mark.parametrize("value", [None, False, 0, "", [], "text", 1.5, ["a", {"b": None}]])
async def test_any_json_value_is_an_output(value):
    async with inline_stage(as_sync(lambda _: value)) as stage:
        job = await stage.run()
        assert (job.status, json.loads(job.output_json)) == ("COMPLETED", value)


@every_way
async def test_a_returned_error_fails_the_job_and_the_rest_is_output(way):
    async with inline_stage(way(lambda _: {"error": "bad thing", "extra": 1})) as stage:
        assert outcome(await stage.run()) == ("FAILED", {"extra": 1}, "bad thing")


async def test_a_returned_error_alone_leaves_no_output():
    async with inline_stage(as_async(lambda _: {"error": "bad thing"})) as stage:
        job = await stage.run()
        assert (job.status, job.output_json, job.error) == ("FAILED", None, "bad thing")


@pytest.mark.parametrize("nothing", [None, "", 0, {}])
async def test_an_error_that_is_nothing_is_none(nothing):
    async with inline_stage(as_async(lambda _: {"error": nothing, "x": 1})) as stage:
        assert outcome(await stage.run()) == ("COMPLETED", {"x": 1}, None)


async def test_an_error_that_is_no_string_is_written_as_json_with_a_warning():
    async with inline_stage(as_async(lambda _: {"error": {"code": 7}})) as stage:
        assert outcome(await stage.run()) == ("FAILED", None, '{"code":7}')
        [warning] = stage.notices()
        assert "production" in warning


@every_way
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"score": float("nan")}, "output['score'] is nan, which JSON cannot express"),
        (b"raw", "output is of type bytes, which JSON cannot express: return text, numbers, lists or dicts"),
        ({"error": float("inf")}, "error is inf, which JSON cannot express"),
    ],
)
async def test_output_that_json_cannot_express_fails_the_job_by_name(way, value, complaint):
    async with inline_stage(way(lambda _: value)) as stage:
        assert outcome(await stage.run()) == ("FAILED", None, complaint)


# Raised


@every_way
async def test_an_exception_fails_the_job_with_what_the_sdk_would_say(way):
    def break_down(job):
        raise ValueError(f"no {job['input']} today")

    async with inline_stage(way(break_down)) as stage:
        job = await stage.run("soup")
        assert (job.status, job.output_json, job.retries) == ("FAILED", None, 0)
        error = json.loads(job.error)
        assert list(error) == [
            "error_type", "error_message", "error_traceback", "hostname", "worker_id", "runpod_version"
        ]  # fmt: skip
        assert error["error_type"] == "<class 'ValueError'>"
        assert error["error_message"] == "no soup today"
        assert error["worker_id"] == job.worker_id
        assert "break_down" in error["error_traceback"]
        assert "emulator/workers" not in error["error_traceback"]

        assert (await stage.run("tea")).worker_id == job.worker_id


@every_way
async def test_a_handler_that_exits_takes_its_worker_with_it(way):
    async with inline_stage(way(lambda _: sys.exit(3))) as stage:
        job = stage.submit()
        await stage.until(lambda: stage.workers() == {"unhealthy": 1})
        assert (job.status, job.retries) == ("IN_QUEUE", 1)

        await stage.clock.advance(1_000)
        await stage.ended(job)
        assert outcome(job) == ("FAILED", None, "job timed out after 1 retries")
        assert any("sys.exit(3)" in notice for notice in stage.notices())


async def test_after_a_crash_the_worker_serves_again():
    exits = iter([True, False])

    def handler(_):
        if next(exits):
            sys.exit()
        return "at last"

    async with inline_stage(handler) as stage:
        job = stage.submit()
        await stage.until(lambda: job.retries == 1)
        await stage.clock.advance(1_000)
        assert outcome(await stage.ended(job)) == ("COMPLETED", "at last", None)


# Streams


@every_stream
async def test_chunks_come_as_they_are_yielded_and_are_no_output(stream_of):
    async with inline_stage(stream_of("a", {"b": 1}, None)) as stage:
        job = await stage.run()
        assert outcome(job) == ("COMPLETED", [], None)
        status, chunks = await stage.endpoint.read_stream(job, 1_000)
        assert (status, [json.loads(chunk) for chunk in chunks]) == ("COMPLETED", ["a", {"b": 1}, None])


@every_stream
async def test_chunks_are_the_output_as_well_when_that_is_wanted(stream_of):
    async with inline_stage(stream_of("a", 2), start_config={"return_aggregate_stream": True}) as stage:
        job = await stage.run()
        assert outcome(job) == ("COMPLETED", ["a", 2], None)
        assert (await stage.endpoint.read_stream(job, 1_000))[1] == [b'"a"', b"2"]


@every_stream
async def test_a_yielded_error_ends_the_stream(stream_of):
    async with inline_stage(stream_of("a", {"error": "no more"}, "b")) as stage:
        job = await stage.run()
        assert (job.status, job.error) == ("FAILED", "no more")
        assert (await stage.endpoint.read_stream(job, 1_000))[1] == [b'"a"']


@every_stream
async def test_a_chunk_that_json_cannot_express_ends_the_stream(stream_of):
    async with inline_stage(stream_of("a", [float("nan")], "b")) as stage:
        job = await stage.run()
        assert (job.status, job.error) == ("FAILED", "chunk[0] is nan, which JSON cannot express")


def breaking_generator(job):
    yield "a"
    raise ValueError("no more")


async def breaking_async_generator(job):
    yield "a"
    raise ValueError("no more")


@pytest.mark.parametrize("handler", [breaking_generator, breaking_async_generator])
async def test_a_stream_that_raises_has_failed(handler):
    async with inline_stage(handler) as stage:
        job = await stage.run()
        assert job.status == "FAILED"
        assert job.error.startswith("handler: no more \ntraceback: Traceback")
        assert (await stage.endpoint.read_stream(job, 1_000))[1] == [b'"a"']


def generator_without_parameter():
    yield 1


async def async_generator_without_parameter():
    yield 1


def function_without_parameter():
    return 1


async def coroutine_without_parameter():
    return 1


@pytest.mark.parametrize(
    "handler",
    [
        generator_without_parameter,
        async_generator_without_parameter,
        function_without_parameter,
        coroutine_without_parameter,
    ],
)
async def test_a_handler_that_takes_no_job_fails_it(handler):
    async with inline_stage(handler) as stage:
        job = await stage.run()
        assert job.status == "FAILED"
        assert "takes 0 positional arguments" in job.error


async def test_a_reader_sees_the_first_chunk_while_the_generator_still_runs():
    go_on = threading.Event()

    def handler(job):
        yield 1
        go_on.wait()
        yield 2

    async with inline_stage(handler) as stage:
        job = stage.submit()
        assert await stage.endpoint.read_stream(job, 1_000) == ("IN_PROGRESS", [b"1"])
        go_on.set()
        await stage.ended(job)
        assert await stage.endpoint.read_stream(job, 1_000) == ("COMPLETED", [b"2"])


# Progress


async def test_progress_is_the_output_until_the_job_ends():
    clock = VirtualClock(start_ms=0)

    async def handler(job):
        REPORTS.update(job, {"step": 1})
        await clock.sleep(1_000)
        REPORTS.update(job, {"step": 2})
        await clock.sleep(1_000)
        return "done"

    loaded = Handler.of(handler, "the handler", {})
    async with inline_stage(loaded, clock=clock) as stage:
        job = stage.submit()
        seen = []
        for _ in range(3):
            await clock.settle()
            seen.append(outcome(job))
            await clock.advance(1_000)
        assert seen == [
            ("IN_PROGRESS", {"step": 1}, None),
            ("IN_PROGRESS", {"step": 2}, None),
            ("COMPLETED", "done", None),
        ]
        REPORTS.update({"id": job.id}, "too late")
        assert job.output == "done"


async def test_progress_from_a_thread_is_what_it_was_when_it_was_reported():
    go_on = threading.Event()

    def handler(job):
        report = {"step": 1}
        REPORTS.update(job, report)
        report["step"] = object()
        go_on.wait()
        return "done"

    loaded = Handler.of(handler, "the handler", {})
    async with inline_stage(loaded) as stage:
        job = stage.submit()
        await stage.until(lambda: job.output == {"step": 1})
        go_on.set()
        assert outcome(await stage.ended(job)) == ("COMPLETED", "done", None)


@every_way
async def test_progress_that_json_cannot_express_is_ignored(way):
    def work(job):
        REPORTS.update(job, {1, 2})
        REPORTS.update({"id": "another job"}, 1)
        return "done"

    loaded = Handler.of(way(work), "the handler", {})
    async with inline_stage(loaded) as stage:
        assert outcome(await stage.run()) == ("COMPLETED", "done", None)


# refresh_worker


@every_way
async def test_a_worker_is_replaced_when_its_handler_asks_for_it(way):
    async with inline_stage(way(lambda _: {"refresh_worker": True, "x": 1})) as stage:
        first, second = await stage.run(), await stage.run()
        assert outcome(first) == ("COMPLETED", {"x": 1}, None)
        assert first.worker_id != second.worker_id


@pytest.mark.parametrize(
    "handler", [as_sync(lambda _: 1), as_async(lambda _: 1), generator(1), async_generator(1)]
)
async def test_a_worker_is_replaced_after_every_job_when_the_script_says_so(handler):
    async with inline_stage(handler, start_config={"refresh_worker": True}) as stage:
        jobs = [await stage.run() for _ in range(3)]
        assert {job.status for job in jobs} == {"COMPLETED"}
        assert len({job.worker_id for job in jobs}) == 3


async def test_without_that_the_worker_stays():
    async with inline_stage(as_sync(lambda _: 1)) as stage:
        assert (await stage.run()).worker_id == (await stage.run()).worker_id


# What is no handler


@pytest.mark.parametrize("thing", [None, "handler", {"handler": 1}])
def test_a_handler_must_be_callable(thing):
    with pytest.raises(HandlerError, match="not a function that takes a job"):
        Handler.of(thing, "the handler", {})
