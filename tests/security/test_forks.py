"""A child that an inline handler forks is no emulator (attack.md 3)."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.cli.command import serving
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

HANDLER = """
import multiprocessing, os, signal, time

def ends_a_child(job):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    child.start()
    time.sleep(0.2)
    child.terminate()
    child.join()
    return child.exitcode

def has_a_pool(job):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2])

def leaves_a_child(job):
    child = os.fork()
    if child == 0:
        time.sleep(1000)
        os._exit(0)
    return child

def has_a_child_that_raises(job):
    child = os.fork()
    if child == 0:
        raise ValueError("of the child")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def has_a_child_that_exits(job):
    child = os.fork()
    if child == 0:
        raise SystemExit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def handler(job):
    return globals()[job["input"]](job)
"""


@pytest.fixture
def emulator(tmp_path):
    (tmp_path / "h.py").write_text(HANDLER)
    with serving(tmp_path, "h.py:handler", "--worker-kind", "inline", PYTHONWARNINGS="ignore") as emulator:
        yield emulator


def run(emulator, name):
    body = emulator.post("/v2/local/runsync", {"input": name})
    assert body["status"] == "COMPLETED", (body, emulator.log)
    return body["output"]


def test_a_handler_that_ends_its_child_does_not_end_the_emulator(emulator):
    """The child's SIGTERM was written to the loop of its parent, which stopped."""
    assert run(emulator, "ends_a_child") == -signal.SIGTERM
    for _ in range(3):
        assert run(emulator, "has_a_pool") == [1, 2]
    assert "stopping" not in emulator.log


def test_a_child_that_is_ended_as_soon_as_it_is_there_does_not_either(tmp_path):
    """It had its parent's handlers for a moment; a pool's end met it there on a busy machine."""
    (tmp_path / "h.py").write_text(HANDLER)
    (tmp_path / "first").mkdir()
    ended = (
        "import os, signal; os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))"
    )
    (tmp_path / "first/sitecustomize.py").write_text(ended)
    given = {"PYTHONWARNINGS": "ignore", "PYTHONPATH": str(tmp_path / "first")}
    with serving(tmp_path, "h.py:handler", "--worker-kind", "inline", **given) as emulator:
        assert run(emulator, "ends_a_child") == -signal.SIGTERM
        assert "stopping" not in emulator.log


@pytest.mark.parametrize("way", ["raises", "exits"])
def test_a_child_that_leaves_the_handler_ends(emulator, way):
    """It went on as a worker's thread that waits for work, and outlived the emulator."""
    assert run(emulator, f"has_a_child_that_{way}") == 0
    assert run(emulator, "has_a_pool") == [1, 2]


def test_a_child_holds_neither_the_port_nor_a_connection(emulator):
    parts = urlsplit(emulator.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S) as client:
        client.sendall(b"GET /_emulator/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        child = run(emulator, "leaves_a_child")
        try:
            assert emulator.stop() == 0
            assert client.recv(1) == b"", "the connection has ended"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S)
            if sys.platform == "linux":
                os.kill(child, 0)
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
