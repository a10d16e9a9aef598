"""A registry on this machine's loopback: Debian's `docker-registry`, in a folder of its own.

Engines take any registry at 127.0.0.0/8 without TLS. They reach it through a relay, which can hold it back: a
pull from loopback is over before anybody could be told how far it is.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING

import httpx
import yaml

from tests.engine.patience import until
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_PIECE = 64 * 1024
#: Real seconds before each piece while it holds back: some 3 MiB/s.
_PAUSE_S = 0.02


class Registry:
    """A registry that runs."""

    def __init__(self, port: int) -> None:
        #: What the names of its images start with.
        self.address = f"127.0.0.1:{port}"
        #: Whether it may hand out layers as fast as it can.
        self.may_hurry: Callable[[], bool] = lambda: True

    def tag(self, name: str, other: str) -> None:
        """Have another name (`NAME:TAG`, of the same repository) point to what one points to."""
        repository, _, tag = name.partition(":")
        manifests = f"http://{self.address}/v2/{repository}/manifests"
        with httpx.Client(trust_env=False, timeout=PATIENCE_S) as http:
            found = http.get(f"{manifests}/{tag}", headers={"accept": _MANIFEST}).raise_for_status()
            moved = http.put(
                f"{manifests}/{other.partition(':')[2]}",
                content=found.content,
                headers={"content-type": _MANIFEST},
            )
            moved.raise_for_status()


@contextmanager
def registry_in(folder: Path, users: str = "") -> Iterator[Registry]:
    """A registry until the body ends; with `users` (lines of an htpasswd file) one that wants a login."""
    port = _free_port()
    settings = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if users:
        (folder / "users").write_text(users)
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "users")}}
    (file := folder / "registry.yml").write_text(yaml.safe_dump(settings))
    with (folder / "registry.log").open("w") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(file)], stdout=log, stderr=log)
    try:
        until(lambda: _listens(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "registry.log").read_text()
        with _relay_to(port) as registry:
            yield registry
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _relay_to(port: int) -> Iterator[Registry]:
    class Relay(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as other:
                asked = threading.Thread(target=_copy, args=(self.request, other, lambda: True))
                asked.start()
                _copy(other, self.request, lambda: registry.may_hurry())
                asked.join()

    with ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        server.daemon_threads = True
        registry = Registry(server.server_address[1])
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield registry
        finally:
            server.shutdown()
            serving.join()


def _copy(source: socket.socket, target: socket.socket, may_hurry: Callable[[], bool]) -> None:
    """All that comes, until one of them has hung up; then neither gets any more."""
    pause = threading.Event()
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            if not may_hurry():
                pause.wait(_PAUSE_S)
            target.sendall(piece)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
