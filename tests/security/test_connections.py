"""Connections of clients that are in a hurry, half gone, or gone (attack.md 9, 27, 28)."""

import asyncio
import json
import logging
import shutil
import socket
import struct
import urllib.error
import urllib.request

import httpx
import pytest

from emulator.serving import half_sent
from tests.api.client import served
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio

MB = 1_000_000
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
#: What is answered before the body is read: method, path, key, status.
EARLY = [
    ("POST", "/v2/ep/run", "", 401),
    ("POST", "/v2/other/run", "local", 404),
    ("POST", "/v2/ep/runn", "local", 404),
    ("PUT", "/v2/ep/run", "local", 405),
    ("POST", "/v2/ep/status/x", "local", 429),
    ("POST", "/v2/ep/run", "local", 400),
]


#: The command's loop, and that of a program which runs the emulator itself.
on_both_loops = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": True}), ("asyncio", {"use_uvloop": False})]
)


@pytest.fixture
def nothing_is_wrong(caplog):
    """Nothing is logged that a person would take for a fault of the emulator."""
    caplog.set_level(logging.WARNING)
    yield
    wrong = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in wrong] == []


async def with_429(client):
    fault = {"match": {"operation": "status"}, "then": {"status": 429}}
    assert (await client.http.post("/_emulator/faults", json=fault)).status_code == 200


def by_urllib(url, method, key, size):
    """It asks for the connection to be closed, and sends all of the body before it reads."""
    request = urllib.request.Request(url, b"x" * size, {"authorization": key} if key else {}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(request, timeout=PATIENCE_S)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["status"]
    return None


@pytest.mark.parametrize(
    ("method", "path", "key", "status", "size"),
    # A job of up to 10 MB is read to its end.
    [
        (*early, size)
        for early in EARLY
        for size in (MB, 9 * MB, 30 * MB)
        if early[-1] != 400 or size > 10 * MB
    ],
)
async def test_an_answer_that_comes_before_the_request_has_been_sent_arrives(
    method, path, key, status, size, nothing_is_wrong
):
    async with served() as client:
        await with_429(client)
        for _ in range(3):
            answered = await asyncio.to_thread(by_urllib, f"{client.emulator.url}{path}", method, key, size)
            assert answered == (status, status)


NODE = """
const http = require("http");
const [, , url, size] = process.argv;
const request = http.request(url, {method: "POST", agent: false, headers: {authorization: "x"}}, (answer) => {
  answer.resume();
  answer.on("end", () => console.log(answer.statusCode));
});
request.on("error", (error) => console.log(error.code));
request.end(Buffer.alloc(Number(size), "x"));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
@pytest.mark.parametrize(("path", "size", "status"), [("run", 11 * MB, 400), ("status/x", 9 * MB, 429)])
async def test_node_without_an_agent_gets_it_too_and_no_error(path, size, status, tmp_path):
    """It got the answer and an ECONNRESET."""
    (tmp_path / "client.js").write_text(NODE)
    async with served() as client:
        await with_429(client)
        for _ in range(3):
            node = await asyncio.create_subprocess_exec(
                "node", tmp_path / "client.js", f"{client.emulator.url}/v2/ep/{path}", str(size),
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert (await node.communicate())[0].decode().split() == [str(status)]


# Half closed, half sent, gone


async def connected(client):
    url = httpx.URL(client.emulator.url)
    return await asyncio.open_connection(url.host, url.port)


def request(path, *, version="1.1", method="GET", body=b"", more=""):
    head = f"{method} {path} HTTP/{version}\r\nHost: localhost\r\nAuthorization: x\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@on_both_loops
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("handler_takes_real_time", [False, True])
async def test_a_client_that_has_closed_its_sending_side_is_answered(version, handler_takes_real_time):
    """As `nc -N` does; it got nothing at all."""
    go_on = asyncio.Event()

    async def handler(job):
        await go_on.wait()
        return "fine"

    async with served(handler) as client:
        reader, writer = await connected(client)
        writer.write(request("/v2/ep/runsync", version=version, method="POST", body=b'{"input": 1}'))
        writer.write_eof()
        if handler_takes_real_time:
            # It has been asked whether it is still there by then.
            asyncio.get_running_loop().call_later(0.2, go_on.set)
        else:
            go_on.set()
        answer = await reader.read()
        assert b'"output":"fine"' in answer
        assert answer.count(b" 102 ") == int(handler_takes_real_time and version == "1.1")
        assert b"connection: close" in answer
        writer.close()


@on_both_loops
async def test_one_that_has_gone_is_not_waited_for(caplog):
    caplog.set_level(logging.INFO)
    async with served(lambda job: asyncio.Event().wait()) as client:
        _, writer = await connected(client)
        writer.write(request("/v2/ep/runsync", method="POST", body=b'{"input": 1}'))
        while (await client.jobs())["inProgress"] == 0:
            pass
        writer.close()
        while "/v2/ep/runsync → the client hung up" not in caplog.text:
            await client.jobs()


@pytest.mark.parametrize(
    "sent", [b"GET /v2/ep/heal", request("/v2/ep/run", method="POST", body=b"{")[:-1] + b"", b"\r\nG"]
)
async def test_a_request_of_which_the_rest_does_not_come_ends(sent, monkeypatch):
    """It held its connection for ever."""
    monkeypatch.setattr(half_sent, "_SILENT_S", 0.0)
    monkeypatch.setattr(half_sent, "_LOOK_EVERY_S", 0.01)
    async with served() as client:
        reader, writer = await connected(client)
        writer.write(sent)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"the rest of the request did not come" in answer
        writer.close()
        assert (await client.get("/health")).status_code == 200


async def test_one_that_is_only_slow_does_not_end(monkeypatch):
    monkeypatch.setattr(half_sent, "_LOOK_EVERY_S", 0.0)
    async with served() as client:
        reader, writer = await connected(client)
        for byte in request("/v2/ep/health", more="Connection: close\r\n"):
            writer.write(bytes([byte]))
            await client.clock.settle()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize("path", ["/v2/ep/health", "/_emulator/health"])
@pytest.mark.parametrize("value", ["close", "Close", "close, TE"])
async def test_a_connection_is_closed_after_the_answer_to_who_asks_for_it(value, path):
    """With uvicorn 0.32 a client that reads to the end waited for ever."""
    async with served() as client:
        reader, writer = await connected(client)
        writer.write(request(path, more=f"Connection: {value}\r\n"))
        head = (await reader.read()).partition(b"\r\n\r\n")[0]
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close" in head
        writer.close()


@on_both_loops
async def test_a_pipelining_client_may_reset_its_connection(nothing_is_wrong):
    """344 tracebacks for 750 requests (27)."""
    async with served() as client:
        for _ in range(3):
            _, writer = await connected(client)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.write(request("/v2/ep/health") * 500)
            await client.clock.settle()
            writer.transport.abort()
            assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize("status", [204, 304])
async def test_a_sink_may_answer_with_a_status_that_has_no_body(status, nothing_is_wrong):
    """It broke off the connection, with a RuntimeError in the log (27)."""
    async with served() as client:
        answers = {"answers": [{"status": status, "body": "something"}]}
        assert (await client.http.put("/_emulator/sinks/hook/answers", json=answers)).status_code == 200
        for expected in (status, 200):
            answer = await client.http.post("/_emulator/sink/hook")
            assert (answer.status_code, answer.content) == (expected, b"")
