"""Connections that clients keep open: closed to make room, and for no other reason."""

from __future__ import annotations

import http.client
import resource
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

from tests.cli.command import serving

#: What the emulator itself holds open, with room to spare, and what it may.
DESCRIPTORS = 160
CLIENTS = 400


def connected(url, ended):
    """A client with one connection, which it keeps."""
    parts = urlsplit(url)
    client = http.client.HTTPConnection(parts.hostname, parts.port)
    client.connect()
    # From here on it must not connect anew by itself.
    client.auto_open = False
    return ended.enter_context(closing(client))


def ask(client, path):
    client.request("GET", path, headers={"authorization": "x"})
    answer = client.getresponse()
    answer.read()
    return answer.status


def test_more_clients_than_there_is_room_for_are_served_and_a_workers_connection_stays(tmp_path):
    with serving(tmp_path, "--worker-kind", "external", "--no-rate-limits") as emulator, ExitStack() as ended:
        resource.prlimit(emulator.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        worker = connected(emulator.url, ended)
        assert ask(worker, "/v2/local/ping/w1?gpu=none") == 200
        first, *_, last = [connected_and_served(emulator.url, ended) for _ in range(CLIENTS)]
        assert ask(last, "/v2/local/health") == 200
        # The longest idle one had to go, though it came after the worker's.
        assert first.sock.recv(1) == b""
        assert ask(worker, "/v2/local/ping/w1?gpu=none") == 200


def connected_and_served(url, ended):
    client = connected(url, ended)
    assert ask(client, "/v2/local/health") == 200
    return client
