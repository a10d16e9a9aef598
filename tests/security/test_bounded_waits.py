"""Waits end with their clients, and what they look at is bounded (attack.md 7, 8, 12, 20, 25)."""

import asyncio
import gc
import json
import logging

import httpx
import pytest

from emulator import Clock, VirtualClock
from emulator.api.control import events
from emulator.core.config import WorkerKind
from emulator.core.policy import ExecutionPolicy
from emulator.core.request import JobRequest
from emulator.history import journal as journals
from emulator.webhooks import sinks
from tests.api.client import emulated, served
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio

WAITS = [
    ("/_emulator/sinks/q/wait", {"count": 1}),
    ("/_emulator/journal/wait", {"count": 100, "match": {"path": "/nowhere"}}),
    ("/_emulator/jobs/{job}/wait", {}),
]


def request(path, body, more=b""):
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\nContent-Length: {len(content)}\r\n"
    )
    return head.encode() + more + b"\r\n" + content


async def hung_up(client, path, body):
    """Ask, and hang up without having read an answer."""
    url = httpx.URL(client.emulator.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(request(path, {"timeout_ms": 3_600_000, **body}))
    await client.get("/health")
    await client.get("/health")
    return writer


@pytest.mark.parametrize(("path", "body"), WAITS)
async def test_a_wait_whose_client_has_gone_moves_no_auto_clock(path, body):
    """Time ran on by half an hour in half a second (7)."""
    clock = VirtualClock()
    async with served(options={"clock": clock}, worker_kind=WorkerKind.EXTERNAL) as client:
        job = await client.run()
        writer = await hung_up(client, path.format(job=job), body)
        assert client.emulator._waits._released
        writer.close()
        while client.emulator._waits._released:
            await client.get("/health")
        before_ms = clock.now_ms()
        clock.set_mode("auto")
        for _ in range(20):
            await client.get("/health")
        assert clock.now_ms() - before_ms < 60_000


async def test_ending_is_quick_and_quiet_whatever_is_waited_for(caplog, monkeypatch):
    """It took two seconds more, with a traceback for each (7)."""
    caplog.set_level(logging.WARNING)
    async with served(options={"clock": Clock()}) as client:
        fault = {"match": {"operation": "health"}, "then": {"latency_ms": 3_600_000}}
        writers = []
        for number in range(40):
            path, body = WAITS[number % 2]
            writers.append(await hung_up(client, path, body))
        assert (await client.http.post("/_emulator/faults", json=fault)).status_code == 200
        answers = {"answers": [{"delay_ms": 3_600_000}]}
        assert (await client.http.put("/_emulator/sinks/slow/answers", json=answers)).status_code == 200
        url = httpx.URL(client.emulator.url)
        for sent in (
            b"GET /v2/ep/health HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\n\r\n",
            request("/_emulator/sink/slow", {}),
            request("/v2/ep/run", {"input": 1})[:-3],
            request("/_emulator/faults", {"input": 1})[:-3],
        ):
            _, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(sent)
            writers.append(writer)
        for _ in range(5):
            await client.http.get("/_emulator/health")
        # Whoever had to be waited for would be waited for in vain.
        monkeypatch.setattr("emulator.emulator._ANSWER_PATIENCE_S", 10.0 * PATIENCE_S)
    for writer in writers:
        writer.close()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_an_entry_is_looked_at_once_whoever_waits(monkeypatch):
    """With 20 waiters a job took 3.5 s instead of 2.5 ms (8)."""
    written = 0
    as_json = journals.Entry.as_json

    def counted(entry):
        nonlocal written
        written += 1
        return as_json(entry)

    monkeypatch.setattr(journals.Entry, "as_json", counted)
    async with emulated() as client:
        for _ in range(20):
            await client.runsync()
        path = "/_emulator/journal/wait"
        waits = [
            await client_begin(
                client, path, {"count": 1, "match": {"path": "/v2/ep/requests"}, "timeout_ms": 600_000}
            )
            for _ in range(20)
        ]
        written = 0
        await client.runsync()
        entries = (await client.http.get("/_emulator/journal")).json()["entries"]
        listed = len(entries)
        assert written <= listed + 10, "each of the few that came is written once"
        await client.get("/requests")
        for wait in waits:
            found = (await wait).json()["entries"]
            assert [entry["path"] for entry in found] == ["/v2/ep/requests"]


async def client_begin(client, path, body):
    task = asyncio.get_running_loop().create_task(client.http.post(path, json=body))
    await client.clock.settle()
    return task


async def test_a_wait_counts_anew_when_the_journal_is_cleared():
    async with emulated() as client:
        body = {"count": 2, "match": {"operation": "health"}, "timeout_ms": 600_000}
        wait = await client_begin(client, "/_emulator/journal/wait", body)
        await client.get("/health")
        await client.http.delete("/_emulator/journal")
        await client.get("/health")
        await client.clock.settle()
        assert not wait.done()
        await client.get("/health")
        assert len((await wait).json()["entries"]) == 2


# Sizes


async def test_the_journal_counts_all_that_it_holds():
    """Headers, paths and queries were left out: it held 50 times what it may (12)."""
    async with emulated() as client:
        for _ in range(20):
            await client.get("/health", headers={"x-large": "x" * 1024 * 1024})
        entries = (await client.http.get("/_emulator/journal")).json()["entries"]
        assert 1 <= len(entries) <= 8
        for number in range(200):
            await client.get(f"/status/{'y' * 30_000}?{number}={'z' * 30_000}")
        entries = (await client.http.get("/_emulator/journal")).json()["entries"]
        assert 1 <= len(entries) <= 8 * 1024 * 1024 / 60_000


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v2/ep/health HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /v2/ep/health?" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v2/ep/run HTTP/1.1\r\nHost: localhost\r\n"
        + b"X-Many: x\r\n" * 10_000
        + b"Content-Length: 9\r\n\r\n123",
        b"GET /v2/ep/health HTTP/1.1\r\nHost: localhost\r\nX-Endless: " + b"x" * 1_000_000,
    ],
)
async def test_a_head_that_is_too_large_is_refused_with_a_sentence(sent):
    """One of 10 MB passed (12)."""
    async with served() as client:
        url = httpx.URL(client.emulator.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(sent)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert answer.count(b"HTTP/1.1") == 1
        assert b"larger than 64 KiB" in answer
        writer.close()
        assert (await client.get("/health", headers={"x-large": "x" * 60_000})).status_code == 200


async def test_what_came_with_a_head_is_not_counted_as_one():
    """A body before it in the same piece, or after it."""
    body = b'{"input":"' + b"x" * 100_000 + b'"}'
    head = b"POST /v2/ep/run HTTP/1.1\r\nHost: localhost\r\nAuthorization: any\r\nX-Large: "
    rest = b"x" * 40_000 + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with served(worker_kind="external") as client:
        url = httpx.URL(client.emulator.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(head + rest + body + head)
        for number in range(3):
            answer = await reader.readuntil(b'"IN_QUEUE"}')
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
            writer.write(rest + body + (head if number < 2 else b""))
        assert (await reader.readuntil(b'"IN_QUEUE"}')).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()


@pytest.mark.parametrize("announced", [True, False])
async def test_a_control_body_that_is_too_large_is_refused(announced):
    """200 MB took 380, for good (20)."""

    async def pieces():
        for _ in range(33):
            yield b" " * 1024 * 1024

    async with served() as client:
        content = b" " * (33 * 1024 * 1024) if announced else pieces()
        answer = await client.http.post("/_emulator/faults", content=content)
        assert answer.status_code == 413
        assert answer.json()["error"]["message"] == "the body is larger than 32 MiB"


async def test_what_a_large_control_body_has_taken_is_given_back(monkeypatch):
    """With the command's rare collections it was kept (20)."""
    collected = []
    monkeypatch.setattr(
        "emulator.api.control.body_limit.gc.collect", lambda generation: collected.append(generation)
    )
    async with emulated() as client:
        await client.http.post("/_emulator/faults", content=b"x" * 1_000)
        assert collected == []
        await client.http.post("/_emulator/faults", content=b"x" * 1_000_000)
        assert collected == [1]
    assert gc.isenabled()


def test_the_search_for_misspelt_keys_is_bounded(monkeypatch):
    """50 000 unknown keys took a second (25)."""
    looked = []

    def close(key, *_, **__):
        looked.append(key)
        return []

    monkeypatch.setattr("difflib.get_close_matches", close)
    fields = {f"key {number}": 1 for number in range(50_000)}
    request = JobRequest.of(
        {"input": 1, "x" * 4_000_000: 1, "policy": dict(fields), **fields},
        ExecutionPolicy(execution_timeout_ms=600_000, ttl_ms=86_400_000),
    )
    assert len(looked) < 100
    assert max(map(len, looked)) < 50
    assert sum(map(len, request.warnings)) < 10_000


async def test_what_sinks_keep_is_bounded_in_all_and_the_newest_stays(monkeypatch):
    """Each kept 32 MiB of its own, of which there may be ten thousand (12, 26)."""
    monkeypatch.setattr(sinks, "_BYTES_KEPT_IN_ALL", 100_000)
    async with emulated() as client:

        async def call(name, size, **headers):
            answer = await client.http.post(f"/_emulator/sink/{name}", content=b"x" * size, headers=headers)
            assert answer.status_code == 200

        async def kept(name):
            return len((await client.http.get(f"/_emulator/sinks/{name}")).json()["deliveries"])

        for name in ("first", "first", "second"):
            await call(name, 30_000)
        assert [await kept(name) for name in ("first", "second")] == [2, 1]
        await call("third", 30_000)
        assert [await kept(name) for name in ("first", "second", "third")] == [1, 1, 1]
        # What is called again is not the oldest any more; headers count.
        await call("first", 0)
        await call("third", 0, long="x" * 30_000)
        assert [await kept(name) for name in ("first", "second", "third")] == [2, 0, 2]
        assert (await client.http.delete("/_emulator/sinks/third")).status_code == 200
        await call("second", 60_000)
        assert [await kept(name) for name in ("first", "second")] == [2, 1]
        assert (await client.http.post("/_emulator/reset")).status_code == 200
        for _ in range(3):
            await call("first", 30_000)
        assert await kept("first") == 3


@pytest.mark.parametrize(
    "pattern",
    ["(" * 5_000 + ")" * 5_000, "(" * 3_000 + "a" + ")" * 3_000, "a{99999999999999999999}", "a" * 10_001],
)
async def test_a_pattern_that_no_engine_takes_is_refused(pattern):
    """It was answered with 500 (24)."""
    fault = {"match": {"input": {"$regex": pattern}}, "then": {"fail": "x"}}
    async with emulated() as client:
        for path, body in (
            ("/_emulator/faults", fault),
            ("/_emulator/endpoints/ep/stubs", {"when": fault["match"], "returns": 1}),
            ("/_emulator/journal/find", {"match": fault["match"]}),
        ):
            answer = await client.http.post(path, json=body)
            assert answer.status_code == 400, answer.text
            assert "is not a regular expression" in answer.text


async def test_streams_of_events_are_bounded_and_make_room_when_their_clients_go(monkeypatch):
    """Each event is written for each of them: with 400 the emulator did little else."""
    monkeypatch.setattr(events, "FOLLOWERS_MAX", 2)
    async with served() as client:

        def follow():
            return client.http.stream("GET", "/_emulator/events")

        async with follow() as first, follow() as second:
            for stream in (first, second):
                assert "hello" in await anext(stream.aiter_text())
            async with follow() as third:
                assert third.status_code == 429
                assert "2 streams of events are open already" in (await third.aread()).decode()
        status = 429
        while status == 429:
            async with follow() as again:
                status = again.status_code
        assert status == 200


async def test_a_stream_of_events_ends_with_its_client_where_a_server_would_tell_of_that_at_the_next_event():
    """uvicorn 0.32.0 says that it speaks ASGI 2.4: a client that had gone was found out by the next event."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "GET",
        "path": "/_emulator/events",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    came = asyncio.Queue()
    came.put_nowait({"type": "http.request"})
    async with emulated() as client:

        async def send(message):
            if b"hello" in message.get("body", b""):
                assert client.emulator._feed.followers == 1
                came.put_nowait({"type": "http.disconnect"})

        await client.emulator.app(scope, came.get, send)
        assert client.emulator._feed.followers == 0
