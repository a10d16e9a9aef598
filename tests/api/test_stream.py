"""Reading a job's chunks as they come (wire.md 4)."""

import asyncio

import pytest

from emulator import VirtualClock
from emulator.workers.handler import Handler, HandlerKind
from tests.api.client import emulated

pytestmark = pytest.mark.anyio


def counting(job):
    yield from range(job["input"])


async def counting_async(job):
    for number in range(job["input"]):
        yield number


BOTH_KINDS = pytest.mark.parametrize("handler", [counting, counting_async], ids=["sync", "async"])
OVER_BOTH_PATHS = pytest.mark.parametrize("prefix", ["/v2/ep", ""], ids=["v2", "root"])


def one_a_second(clock, chunks):
    async def handler(_job):
        for chunk in chunks:
            await clock.sleep(1_000)
            yield chunk

    return handler


async def read(client, job_id, query=""):
    response = await client.get(f"/stream/{job_id}{query}")
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["status", "stream"]
    return response.json()


def outputs(*chunks):
    return [{"output": chunk} for chunk in chunks]


@BOTH_KINDS
async def test_chunks_are_handed_out_once_with_the_terminal_status(handler):
    async with emulated(handler) as client:
        job_id = await client.run(3)
        await client.ended(job_id)
        assert await read(client, job_id) == {"status": "COMPLETED", "stream": outputs(0, 1, 2)}
        assert await read(client, job_id) == {"status": "COMPLETED", "stream": []}


@OVER_BOTH_PATHS
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_stream_may_be_got_or_posted(prefix, method):
    async with emulated(counting_async, prefix=prefix) as client:
        job_id = await client.run(1)
        await client.ended(job_id)
        response = await client.http.request(method, f"{prefix}/stream/{job_id}")
        assert response.json() == {"status": "COMPLETED", "stream": outputs(0)}


@BOTH_KINDS
async def test_a_read_hands_out_200_chunks_and_the_terminal_status_comes_with_the_last(handler):
    async with emulated(handler) as client:
        job_id = await client.run(450)
        await client.ended(job_id)
        reads = [await read(client, job_id) for _ in range(4)]
        assert [one["status"] for one in reads] == ["IN_PROGRESS", "IN_PROGRESS", "COMPLETED", "COMPLETED"]
        assert [len(one["stream"]) for one in reads] == [200, 200, 50, 0]
        assert [chunk for one in reads for chunk in one["stream"]] == outputs(*range(450))


async def test_exactly_200_chunks_come_with_the_terminal_status():
    async with emulated(counting_async) as client:
        job_id = await client.run(200)
        await client.ended(job_id)
        body = await read(client, job_id)
        assert (body["status"], len(body["stream"])) == ("COMPLETED", 200)


async def test_a_reader_is_answered_as_soon_as_a_chunk_comes():
    clock = VirtualClock()
    async with emulated(one_a_second(clock, ["a", {"b": 2}]), options={"clock": clock}) as client:
        job_id = await client.run()
        reading = await client.begin("GET", f"/stream/{job_id}")
        await clock.advance(999)
        assert not reading.done()
        await clock.advance(1)
        assert (await reading).json() == {"status": "IN_PROGRESS", "stream": outputs("a")}
        reading = await client.begin("GET", f"/stream/{job_id}")
        await clock.advance(1_000)
        first = (await reading).json()
        assert first["stream"] == outputs({"b": 2})
        assert await read(client, job_id) == {"status": "COMPLETED", "stream": []}


async def test_a_chunk_goes_to_one_reader_only():
    clock = VirtualClock()
    async with emulated(one_a_second(clock, [1, 2, 3]), options={"clock": clock}) as client:
        job_id = await client.run()
        readers = [await client.begin("GET", f"/stream/{job_id}?wait=300000") for _ in range(2)]
        await clock.advance(5_000)
        readers.append(await client.begin("GET", f"/stream/{job_id}"))
        bodies = [(await reader).json() for reader in readers]
        assert sorted(chunk["output"] for body in bodies for chunk in body["stream"]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("query", "wait_ms"), [("", 9_000), ("?wait=1000", 1_000), ("?wait=300000", 300_000)]
)
@pytest.mark.parametrize(("workers", "status"), [(0, "IN_QUEUE"), (1, "IN_PROGRESS")])
async def test_an_empty_stream_is_held_open_for_the_wait(query, wait_ms, workers, status):
    async with emulated(workers_max=workers) as client:
        job_id = await client.run({"mock_delay": 500})
        reading = await client.begin("GET", f"/stream/{job_id}{query}")
        await client.clock.advance(wait_ms - 1)
        assert not reading.done()
        await client.clock.advance(1)
        assert (await reading).json() == {"status": status, "stream": []}


@pytest.mark.parametrize("wait", ["999", "300001", "x"])
async def test_a_wait_out_of_bounds_is_refused(wait):
    async with emulated(counting_async) as client:
        job_id = await client.run(1)
        await client.ended(job_id)
        response = await client.get(f"/stream/{job_id}?wait={wait}")
        assert response.status_code == 400
        assert (
            response.json()["detail"]
            == f"bad request: ?wait: '{wait}' must be an integer from 1000 to 300000"
        )
        assert (await read(client, job_id))["stream"] == outputs(0)


async def test_a_handler_that_does_not_stream_leaves_the_stream_empty():
    async with emulated(lambda job: "whole") as client:
        job_id = await client.run()
        reading = await client.begin("GET", f"/stream/{job_id}")
        assert (await reading).json() == {"status": "COMPLETED", "stream": []}
        assert (await client.status(job_id))["output"] == "whole"


@BOTH_KINDS
@pytest.mark.parametrize(("aggregate", "output"), [(True, [0, 1, 2]), (False, [])])
async def test_the_output_of_a_stream_is_its_chunks_if_they_are_wanted_again(handler, aggregate, output):
    kind = HandlerKind.GENERATOR if handler is counting else HandlerKind.ASYNC_GENERATOR
    configured = Handler(function=handler, kind=kind, name="counting", return_aggregate_stream=aggregate)
    async with emulated(configured) as client:
        body = await client.runsync(3)
        assert (body["status"], body["output"]) == ("COMPLETED", output)
        assert (await read(client, body["id"]))["stream"] == outputs(0, 1, 2)


@pytest.mark.parametrize("character", ["x", "é", "🐎", "\x01"])
async def test_a_string_over_one_megabyte_comes_in_pieces(character):
    text = character * 1_200_000

    async def handler(_job):
        yield text
        yield "end"

    async with emulated(handler) as client:
        job_id = await client.run()
        await client.ended(job_id)
        chunks = [chunk["output"] for chunk in (await read(client, job_id))["stream"]]
        assert chunks.pop() == "end"
        assert len(chunks) > 1
        assert max(len(chunk.encode()) for chunk in chunks) <= 1_000_000
        assert "".join(chunks) == text


def fails_after_two(_job):
    yield 1
    yield 2
    raise ValueError("out of memory")


async def fails_after_two_async(_job):
    yield 1
    yield 2
    raise ValueError("out of memory")


@pytest.mark.parametrize("handler", [fails_after_two, fails_after_two_async], ids=["sync", "async"])
async def test_an_exception_ends_the_stream_after_the_chunks_before_it(handler):
    async with emulated(handler) as client:
        job_id = await client.run()
        body = await client.ended(job_id)
        assert body["status"] == "FAILED"
        assert body["error"].startswith("handler: out of memory \ntraceback: Traceback")
        assert await read(client, job_id) == {"status": "FAILED", "stream": outputs(1, 2)}


@pytest.mark.parametrize(
    ("chunk", "error"),
    [
        ({"error": "bad prompt"}, "bad prompt"),
        (b"bytes", "chunk is of type bytes, which JSON cannot express"),
    ],
)
async def test_a_chunk_that_is_an_error_ends_the_stream(chunk, error):
    async def handler(_job):
        yield "first"
        yield chunk
        yield "never sent"

    async with emulated(handler) as client:
        job_id = await client.run()
        body = await client.ended(job_id)
        assert body["status"] == "FAILED"
        assert body["error"].startswith(error)
        assert await read(client, job_id) == {"status": "FAILED", "stream": outputs("first")}


async def test_cancelling_wakes_the_reader_and_stops_the_generator():
    clock = VirtualClock()
    async with emulated(one_a_second(clock, range(100)), options={"clock": clock}) as client:
        job_id = await client.run()
        await clock.advance(1_000)
        assert (await read(client, job_id))["stream"] == outputs(0)
        reading = await client.begin("GET", f"/stream/{job_id}")
        await client.post(f"/cancel/{job_id}")
        assert (await reading).json() == {"status": "CANCELLED", "stream": []}
        await clock.advance(5_000)
        assert await read(client, job_id) == {"status": "CANCELLED", "stream": []}


async def test_a_sync_generator_is_read_while_it_runs():
    gate = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def handler(_job):
        yield "early"
        asyncio.run_coroutine_threadsafe(wait_for(gate), loop).result()
        yield "late"

    async def wait_for(future):
        await future

    async with emulated(handler) as client:
        job_id = await client.run()
        assert await read(client, job_id) == {"status": "IN_PROGRESS", "stream": outputs("early")}
        gate.set_result(None)
        await client.ended(job_id)
        assert await read(client, job_id) == {"status": "COMPLETED", "stream": outputs("late")}


async def test_a_retried_stream_starts_anew():
    attempts = []

    async def handler(_job):
        attempts.append(1)
        yield len(attempts)
        if len(attempts) == 1:
            raise ValueError("first time")

    async with emulated(handler) as client:
        job_id = await client.run()
        assert (await client.ended(job_id))["status"] == "FAILED"
        await client.post(f"/retry/{job_id}")
        assert (await client.ended(job_id))["status"] == "COMPLETED"
        assert await read(client, job_id) == {"status": "COMPLETED", "stream": outputs(2)}
