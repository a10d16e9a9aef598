"""An emulator that is no part of the cluster: it speaks to it by Ray's client, as a laptop does."""

from __future__ import annotations

import socket

import pytest

from tests.engine.patience import until
from tests.ray.conftest import cluster_of, handlers

#: Ray leaves a log of its server's open.
pytestmark = [
    pytest.mark.xdist_group("client"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def is_there(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def connected(port, serving, **more):
    until(lambda: is_there(port))
    return serving(ray_address=f"ray://127.0.0.1:{port}", **more)


def test_by_rays_client_all_is_the_same(serving, tmp_path):
    port = free_port()
    with cluster_of(1, ray_client_server_port=port) as head, connected(port, serving, on=head) as endpoint:
        first = endpoint.runsync("version")
        assert first["output"] == 1
        assert "handler.py" in endpoint.runsync("look")["output"]["files"]
        # There is one place: the worker with the new code gets it when the other has gone.
        (tmp_path / "beside.py").write_text("VERSION = 2\n")
        endpoint.http.post(f"/_emulator/workers/{first['workerId']}/kill")
        until(lambda: handlers() and endpoint.runsync("version")["output"] == 2)
        body = endpoint.runsync("exit", code=7)
        assert (body["status"], body["retries"]) == ("FAILED", 1)
