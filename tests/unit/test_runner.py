"""The program that runs a bare function as a worker."""

import asyncio
import socket
import threading

import pytest

from emulator.clock.real_time import next_round
from emulator.workers import runner
from tests.limits import PATIENCE_S

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.fixture
def forgetful():
    """The URL of a server that closes each connection once it has answered, as one does with an idle one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE_S)

        def answer():
            for _ in range(2):
                with listening.accept()[0] as connection:
                    connection.recv(65_536)
                    connection.sendall(ANSWER)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/job-done/w/j?x"
        thread.join()


def test_a_connection_that_was_closed_meanwhile_costs_no_pause(forgetful, monkeypatch):
    pauses = []
    monkeypatch.setattr(runner.time, "sleep", pauses.append)
    connection = runner.Connection(PATIENCE_S)
    assert connection.call("POST", forgetful, b"{}") == (200, b"{}")
    assert connection.call("POST", forgetful, b"{}") == (200, b"{}")
    assert pauses == []
    connection._http.close()


def test_nor_does_it_on_the_loop(forgetful, monkeypatch):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(runner.asyncio, "sleep", sleep)

    async def call_twice():
        calls = runner.Calls()
        return [await calls.call("POST", forgetful, b"{}") for _ in range(2)]

    assert asyncio.run(call_twice()) == [(200, b"{}")] * 2
    assert pauses == []


class Server:
    """Answers each request on a connection with what was given, and keeps the requests."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.connections = 0
        self.asked = asyncio.Event()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/job-done/w/j?gpu=none"

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(
                    dict(line.split(b": ") for line in head.split(b"\r\n")[1:-2]).get(b"Content-Length", 0)
                )
                self.requests.append(head + await reader.readexactly(length))
                self.asked.set()
                for piece in self.answers.pop(0):
                    writer.write(piece)
                    await writer.drain()
                    # The next piece is to come by itself.
                    for _ in range(5):
                        await next_round()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def call_all(server, *bodies):
    async def call():
        async with server as url:
            calls = runner.Calls()
            return [await calls.call("GET" if body is None else "POST", url, body) for body in bodies]

    return asyncio.run(asyncio.wait_for(call(), PATIENCE_S))


def test_a_request_has_what_the_sdks_has(monkeypatch):
    monkeypatch.setenv("RUNPOD_AI_API_KEY", "a-key")
    server = Server([ANSWER], [ANSWER])
    call_all(server, None, b'{"output":1}')
    taken, brought = server.requests
    assert taken.startswith(b"GET /job-done/w/j?gpu=none HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nAuthorization: a-key\r\n" in taken
    assert brought.startswith(b"POST ")
    assert brought.endswith(b'\r\nContent-Length: 12\r\n\r\n{"output":1}')
    assert server.connections == 1


def test_an_answer_may_come_in_any_pieces():
    large = b"x" * 1_000_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Other: 1\r\n\r\n%b" % (len(large), large)
    pieces = [[answer[:cut], answer[cut:]] for cut in (1, 12, 30, 60, 500_000)]
    nothing = b"HTTP/1.1 204 No Content\r\ndate: x\r\n\r\n"
    server = Server(*pieces, [nothing], [ANSWER])
    answers = call_all(server, *[b"{}"] * 7)
    assert answers == [(200, large)] * 5 + [(204, b""), (200, b"{}")]
    assert server.connections == 1


def test_a_connection_that_is_to_be_closed_is_not_used_again():
    server = Server([ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")], [ANSWER])
    assert call_all(server, b"{}", b"{}") == [(200, b"{}")] * 2
    assert server.connections == 2


def test_the_answer_to_a_call_that_was_given_up_is_not_taken_for_the_next():
    async def call():
        server = Server([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"], [ANSWER])
        async with server as url:
            calls = runner.Calls()
            given_up = asyncio.create_task(calls.call("POST", url, b"{}"))
            await server.asked.wait()
            given_up.cancel()
            await asyncio.wait({given_up})
            assert await calls.call("POST", url, b"{}") == (200, b"{}")
            assert server.connections == 2

    asyncio.run(asyncio.wait_for(call(), PATIENCE_S))


@pytest.mark.parametrize("pieces", [[ANSWER, ANSWER], [ANSWER * 2]])
def test_what_nobody_has_asked_for_is_not_taken_for_an_answer(pieces):
    async def call():
        server = Server(pieces, [ANSWER.replace(b"{}", b"[]")])
        async with server as url:
            calls = runner.Calls()
            assert await calls.call("POST", url, b"{}") == (200, b"{}")
            while calls._connection.is_open:
                await next_round()
            assert await calls.call("POST", url, b"{}") == (200, b"[]")
            assert server.connections == 2

    asyncio.run(asyncio.wait_for(call(), PATIENCE_S))


@pytest.mark.parametrize("answer", [b"ok", b"", b"[]", b'{"status":200}', b'{"id":1}'])
def test_what_is_no_job_is_not_run(answer):
    assert runner._job_in(answer) is None
    assert runner._job_in(b'{"id":"a","input":1}') == {"id": "a", "input": 1}
