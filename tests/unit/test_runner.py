"""The program that runs a bare function as a worker."""

import socket
import threading

import pytest

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
