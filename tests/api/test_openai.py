"""The OpenAI routes (wire.md 4): what becomes of a call, of chunks, of errors."""

import asyncio
import json

import pytest

from emulator import VirtualClock
from emulator.workers.handler import Handler
from tests.api.client import emulated, served
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
RAW = 'data: {"n": 1}\n\n'


def as_input(job):
    return {"got": job["input"], "id": job["id"]}


def yielding(*values, then=None):
    async def handler(_job):
        for value in values:
            yield value
        if then is not None:
            raise then

    return handler


def returning(value):
    async def handler(_job):
        return value

    return handler


async def asked(client, body=CHAT, path="/openai/v1/chat/completions", **options):
    return await client.post(path, json=body, **options)


async def streamed(client, **fields):
    """The whole text of a stream, which the client reads to its end."""
    response = await asked(client, {**CHAT, "stream": True, **fields})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return response.text


def error_of(response, status):
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert {"message", "type", "code"} <= error.keys()
    return error


@pytest.mark.parametrize("prefix", ["/v2/ep", ""], ids=["v2", "root"])
async def test_a_call_is_a_job_with_its_route_and_body(prefix):
    async with emulated(as_input, prefix=prefix) as client:
        answer = (await asked(client)).json()
        assert answer["got"] == {"openai_route": "/v1/chat/completions", "openai_input": CHAT}
        assert answer["id"].startswith("sync-")
        job = await client.status(answer["id"])
        assert job["status"] == "COMPLETED"
        assert (await client.jobs())["completed"] == 1


async def test_a_get_has_no_input_of_its_own():
    async with emulated(as_input) as client:
        answer = (await client.get("/openai/v1/models")).json()
        assert answer["got"] == {"openai_route": "/v1/models"}


async def test_a_body_reaches_the_handler_as_it_came():
    text = '{"b":1.50,"a":"\\u00e9", "n":12345678901234567890}'
    async with emulated(as_input) as client:
        answer = await client.post("/openai/v1/any/thing", content=text)
        assert answer.json()["got"] == {"openai_route": "/v1/any/thing", "openai_input": json.loads(text)}


@pytest.mark.parametrize(
    ("output", "body"),
    [
        ({"a": 1}, {"a": 1}),
        ([{"a": 1}], {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ("text", "text"),
        ([1, 2], [1, 2]),
    ],
)
async def test_what_the_handler_returns_is_the_body(output, body):
    async with emulated(returning(output)) as client:
        assert (await asked(client)).json() == body


@pytest.mark.parametrize("aggregate", [True, False])
async def test_what_the_handler_yields_last_is_the_body(aggregate):
    handler = Handler.of(yielding({"a": 1}, {"a": 2}), "yielding", {"return_aggregate_stream": aggregate})
    async with emulated(handler) as client:
        assert (await asked(client)).json() == {"a": 2}


async def test_event_text_is_passed_on_byte_for_byte_wherever_it_is_cut():
    text = RAW + 'data: {"n": "é"}\n\ndata: [DONE]\n\n'
    pieces = [text[at : at + 5] for at in range(0, len(text), 5)]
    async with served(yielding(*pieces)) as client:
        assert await streamed(client) == text


async def test_other_values_become_events_and_the_end_is_said_once():
    async with served(yielding({"n": 1}, [{"n": 2}, RAW])) as client:
        assert await streamed(client) == 'data: {"n":1}\n\ndata: {"n":2}\n\n' + RAW + "data: [DONE]\n\n"


async def test_the_end_follows_event_text_that_was_not_ended():
    async with served(yielding('data: {"n": 1}')) as client:
        assert await streamed(client) == RAW + "data: [DONE]\n\n"


async def test_a_text_that_only_speaks_of_the_end_is_not_the_end():
    said = 'data: {"text": "data: [DONE]"}\n\n'
    async with served(yielding(said)) as client:
        assert await streamed(client) == said + "data: [DONE]\n\n"


async def test_a_handler_that_does_not_stream_is_one_event():
    async with served(returning({"n": 1})) as client:
        assert await streamed(client) == 'data: {"n":1}\n\ndata: [DONE]\n\n'


async def test_chunks_arrive_as_they_are_yielded():
    go_on = asyncio.Event()

    async def handler(_job):
        yield RAW
        await go_on.wait()
        yield RAW

    async with served(handler) as client:
        request = client.http.stream("POST", "/v2/ep/openai/v1/completions", json={"stream": True})
        async with request as response:
            text = response.aiter_text()
            assert await anext(text) == RAW
            go_on.set()
            assert "".join([piece async for piece in text]) == RAW + "data: [DONE]\n\n"


async def test_a_silent_stream_says_that_it_is_alive_between_events_only():
    clock = VirtualClock()

    async def handler(_job):
        await clock.sleep(40_000)
        yield "data: {"
        await clock.sleep(40_000)
        yield '"n": 1}\n\n'

    async with served(handler, options={"clock": clock}) as client:
        request = asyncio.ensure_future(streamed(client))
        while not request.done():
            await clock.advance(5_000)
        text = request.result()
    assert text.startswith(": keep-alive\n\n")
    assert text.replace(": keep-alive\n\n", "") == 'data: {"n": 1}\n\ndata: [DONE]\n\n'


async def test_a_client_that_hangs_up_cancels_its_job():
    clock = VirtualClock()

    async def handler(_job):
        yield RAW
        await clock.sleep(3_600_000)

    async with served(handler, options={"clock": clock}) as client:
        request = client.http.stream("POST", "/v2/ep/openai/v1/completions", json={"stream": True})
        async with request as response:
            assert await anext(response.aiter_text()) == RAW
        listed = (await client.get("/requests")).json()["requests"]
        (job,) = listed
        assert (await client.ended(job["id"]))["status"] == "CANCELLED"


async def test_a_worker_that_is_lost_while_it_streams_ends_the_stream():
    clock = VirtualClock()

    async def handler(_job):
        yield RAW
        await clock.sleep(10_000)
        yield RAW

    async with served(handler, options={"clock": clock}) as client:
        fault = {"then": {"crash": "mid", "after_ms": 5_000}, "times": 1}
        added = await client.http.post("/_emulator/faults", json=fault)
        assert added.status_code == 200, added.text
        request = asyncio.ensure_future(streamed(client))
        while not request.done():
            await clock.advance(5_000)
        text = request.result()
    assert text.startswith(RAW)
    assert "the worker was lost" in text
    assert text.count(RAW) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("worker_error", "status"),
    [
        ({"error": {"message": "too long", "type": "BadRequestError", "code": 400}}, 400),
        ({"error": {"message": "no such model", "type": "NotFoundError", "code": "404"}}, 404),
        ({"error": {"message": "slow down", "type": "RateLimitError"}}, 429),
        ({"error": {"message": "broken"}}, 500),
        ({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, 400),
    ],
)
async def test_a_workers_error_object_keeps_its_status(worker_error, status, stream):
    async with served(yielding(worker_error)) as client:
        error = error_of(await asked(client, {**CHAT, "stream": stream}), status)
        assert error["message"] == worker_error.get("error", worker_error)["message"]


async def test_an_error_object_that_is_returned_fails_its_job_and_keeps_its_status():
    async with served(returning({"error": {"message": "too long", "code": 422}})) as client:
        assert error_of(await asked(client), 422)["message"] == "too long"
        assert (await client.jobs())["failed"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_job_is_a_500_with_its_message(stream):
    async with served(yielding(then=ValueError("out of memory"))) as client:
        error = error_of(await asked(client, {**CHAT, "stream": stream}), 500)
        assert error["message"].endswith("out of memory")


async def test_an_error_after_chunks_is_the_last_event():
    async with served(yielding(RAW, then=ValueError("out of memory"))) as client:
        text = await streamed(client)
    assert text.startswith(RAW)
    assert "[DONE]" not in text
    last = json.loads(text.removeprefix(RAW).removeprefix("data: "))
    assert last["error"]["message"].endswith("out of memory")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_job_that_completes_without_output_is_an_error_or_an_empty_stream(stream):
    async with served(returning(None)) as client:
        if stream:
            assert await streamed(client) == "data: [DONE]\n\n"
        else:
            assert error_of(await asked(client), 500)["code"] == "no_output"


async def test_the_execution_timeout_ends_a_stream_with_an_error():
    clock = VirtualClock()

    async def handler(_job):
        yield RAW
        await clock.sleep(3_600_000)

    async with served(handler, options={"clock": clock}, execution_timeout_ms=60_000) as client:
        request = asyncio.ensure_future(streamed(client))
        while not request.done():
            await clock.advance(10_000)
        assert "executionTimeout exceeded" in request.result()


@pytest.mark.parametrize("stream", [False, True])
async def test_no_worker_in_time_is_a_503_that_says_what_was_missing(stream):
    clock = VirtualClock()
    async with served(returning(1), options={"clock": clock}, workers_max=0) as client:
        request = asyncio.ensure_future(asked(client, {**CHAT, "stream": stream}))
        while not request.done():
            await clock.advance(50_000)
        answer = request.result()
        assert "workersMax" in answer.text
        assert "within 300 s" in answer.text
        assert answer.status_code == (200 if stream else 503)
        assert (await client.jobs())["inQueue"] == 0


async def test_a_ttl_that_runs_out_is_a_408():
    clock = VirtualClock()

    async def handler(_job):
        await clock.sleep(10**9)

    options = {"clock": clock}
    async with served(handler, options=options, execution_timeout_ms=604_800_000, ttl_ms=20_000) as client:
        request = asyncio.ensure_future(asked(client))
        while not request.done():
            await clock.advance(10_000)
        assert "ttl" in error_of(request.result(), 408)["message"]


async def test_what_is_refused_has_openais_form():
    async with served(as_input, options={"api_keys": ["key"]}) as client:
        http = client.http
        assert error_of(await http.post("/v2/ep/openai/v1/x", json={}), 401)["code"] == "invalid_api_key"
        http.headers["authorization"] = "Bearer key"
        assert error_of(await http.post("/v2/none/openai/v1/x", json={}), 404)["code"] == "not_found"
        assert error_of(await http.put("/v2/ep/openai/v1/x", json={}), 405)
        assert "JSON" in error_of(await http.post("/v2/ep/openai/v1/x", content="{nope"), 400)["message"]
        assert "stream" in error_of(await http.post("/v2/ep/openai/v1/x", json={"stream": 1}), 400)["message"]
        assert error_of(await http.post("/v2/ep/openai/v1/x", content=b"[1]"), 400)
        big = b'{"a":"' + b"x" * (20 * 1024 * 1024) + b'"}'
        assert "20MiB" in error_of(await http.post("/v2/ep/openai/v1/x", content=big), 400)["message"]


async def test_the_limit_of_the_openai_routes_is_kept_and_streams_count_to_their_end():
    hold = asyncio.Event()

    async def handler(_job):
        yield RAW
        await hold.wait()

    limits = {"rate_limit_scale": 0.0025}
    async with served(handler, options=limits) as client:
        request = client.http.stream("POST", "/v2/ep/openai/v1/completions", json={"stream": True})
        async with asyncio.timeout(PATIENCE_S), request as response:
            assert await anext(response.aiter_text()) == RAW
            error = error_of(await asked(client), 429)
            assert "/openai" in error["message"]
            hold.set()


async def test_an_ordered_error_has_openais_form_too():
    async with served(as_input) as client:
        fault = {"match": {"operation": "openai"}, "then": {"status": 503}, "times": 1}
        added = await client.http.post("/_emulator/faults", json=fault)
        assert added.status_code == 200, added.text
        error_of(await asked(client), 503)
        assert (await asked(client)).status_code == 200


async def test_the_journal_has_the_call_and_its_stream():
    async with served(yielding(RAW)) as client:
        await streamed(client)
        entries = (await client.http.get("/_emulator/journal?kind=api")).json()["entries"]
        entry = entries[-1]
        assert entry["operation"] == "openai"
        assert entry["response"]["body"].startswith(RAW)
        assert entry["job_id"].startswith("sync-")
