"""A stand-in for the Docker engine: its HTTP API, whose containers are processes in folders.

`make test` needs no engine (tests/engine has a real one). This is the narrowest seam below testcontainers:
its own client and docker-py are the real ones, and talk to this over HTTP as they would to an engine. A
container's command and variables are those of the Dockerfile's image and of the request, its files are a
folder with what was copied and mounted, and its port is published on one of this machine.
What an engine does and this does not:
pull, isolate, and keep a container from writing to what is mounted read-only.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.docker.dockerfile import PROJECT
from tests.docker.image import SDK
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Of the log, as an engine sends it: which stream, three zeros, how long.
_FRAME = struct.Struct(">BxxxL")
_STREAMS = {"stdout": 1, "stderr": 2}


@dataclass
class FakeContainer:
    """A container that was created, and its process once it was started."""

    id: str
    #: The body of the request that created it.
    spec: dict[str, Any]
    folder: Path
    #: What was copied into it, by its path.
    copied: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    host_port: int | None = None

    @property
    def variables(self) -> dict[str, str]:
        """What the request adds to the image's environment."""
        return dict(variable.split("=", 1) for variable in self.spec["Env"])

    def copy_into(self, archive: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            self.copied |= {f"/{member.name.lstrip('/')}": member for member in tar.getmembers()}
            tar.extractall(self.folder, filter="data")

    def start(self) -> None:
        """Run the image's command, with its absolute paths in the container's folder."""
        (port,) = self.spec["ExposedPorts"]
        environment = SDK.pairs("ENV") | self.variables
        assert port == f"{environment['EMULATOR_PORT']}/tcp", "what is published must be what it serves on"
        self.host_port = _free_port()
        words = SDK.command("ENTRYPOINT") + SDK.command("CMD")
        assert words[0] == "runpod-emulator"
        for bind in self._binds:
            source, target, _ = bind.split(":")
            self._place(target).symlink_to(source)
        for path in self.copied:
            file = self._place(path)
            file.write_text(self._in_folder(file.read_text()))
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("EMULATOR_", "RUNPOD_"))
        }
        given = {name: self._in_folder(value) for name, value in environment.items() if name != "PATH"}
        # There are no networks here between which a port would be forwarded.
        reachable = {"EMULATOR_HOST": "127.0.0.1", "EMULATOR_PORT": str(self.host_port)}
        app = self.folder / "app"
        app.mkdir()
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "emulator", *words[1:]],
                cwd=app,
                env={**inherited, "PYTHONPATH": str(PROJECT), **given, **reachable},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def remove(self) -> None:
        """End its process and what that has started."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def inspected(self) -> dict[str, Any]:
        code = None if self.process is None else self.process.poll()
        status = "created" if self.process is None else "running" if code is None else "exited"
        published = [{"HostIp": "0.0.0.0", "HostPort": str(self.host_port)}] if status == "running" else None
        return {
            "Id": self.id,
            "Name": f"/{self.id[:12]}",
            "Image": self.spec["Image"],
            "State": {"Status": status, "Running": status == "running", "ExitCode": code or 0},
            "Config": {"Tty": False, "Labels": self.spec["Labels"], "Image": self.spec["Image"]},
            "HostConfig": {"LogConfig": {"Type": "json-file"}, "NetworkMode": "default"},
            "NetworkSettings": {"Ports": dict.fromkeys(self.spec["ExposedPorts"], published), "Networks": {}},
        }

    def log(self, asked: dict[str, list[str]]) -> bytes:
        frames = b""
        for name, number in _STREAMS.items():
            file = self.folder / name
            if asked.get(name) == ["1"] and file.exists():
                text = file.read_bytes()
                frames += _FRAME.pack(number, len(text)) + text
        return frames

    @property
    def _binds(self) -> list[str]:
        binds: list[str] = self.spec["HostConfig"].get("Binds", [])
        return binds

    def _place(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def _in_folder(self, text: str) -> str:
        """A text with the container's own paths in its folder."""
        for path in [*(bind.split(":")[1] for bind in self._binds), *self.copied]:
            text = re.sub(rf"(?<![\w/.]){re.escape(path)}(?![\w.])", f"{self.folder}{path}", text)
        return text


class FakeEngine:
    """The engine; `containers` are those that were created and not removed yet, `created` are all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.containers: dict[str, FakeContainer] = {}
        self.created: list[FakeContainer] = []

    def answer(
        self, method: str, path: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, dict[str, Any] | bytes | None]:
        """The status and the body for a call; the API's version is left out of the path."""
        match method, *path.strip("/").split("/"):
            case "GET", "version":
                return 200, {"ApiVersion": "1.45", "MinAPIVersion": "1.24", "Version": "27.0.0"}
            case "GET", "images", *name, "json":
                return 200, {"Id": "sha256:0", "RepoTags": ["/".join(name)]}
            case "POST", "containers", "create":
                return 201, {"Id": self._create(json.loads(body)).id, "Warnings": []}
            case _, "containers", key, *rest if key in self.containers:
                return self._answer_for(self.containers[key], method, rest, query, body)
        return 404, {"message": f"the fake engine knows nothing of {method} {path}"}

    def _answer_for(
        self,
        container: FakeContainer,
        method: str,
        rest: list[str],
        query: dict[str, list[str]],
        body: bytes,
    ) -> tuple[int, dict[str, Any] | bytes | None]:
        match method, *rest:
            case "PUT", "archive":
                assert query["path"] == ["/"]
                container.copy_into(body)
                return 200, None
            case "POST", "start":
                container.start()
                return 204, None
            case "GET", "json":
                return 200, container.inspected()
            case "GET", "logs":
                return 200, container.log(query)
            case ("DELETE",):
                container.remove()
                del self.containers[container.id]
                return 204, None
        return 404, {"message": f"the fake engine cannot {method} {rest}"}

    def _create(self, spec: dict[str, Any]) -> FakeContainer:
        number = f"{len(self.created) + 1:064x}"
        folder = self._folder / str(len(self.created) + 1)
        folder.mkdir()
        container = self.containers[number] = FakeContainer(number, spec, folder)
        self.created.append(container)
        return container


@contextmanager
def fake_engine(folder: Path) -> Iterator[tuple[FakeEngine, str]]:
    """An engine, and the address for DOCKER_HOST. Containers that are left at the end are removed."""
    engine = FakeEngine(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            url = urlsplit(self.path)
            path = unquote(re.sub(r"^/v\d+\.\d+", "", url.path))
            status, content = engine.answer(self.command, path, parse_qs(url.query), self._body())
            body = b"" if content is None else content
            if isinstance(body, dict):
                body = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *_: object) -> None:
            """Say nothing of calls."""

    for method in ("GET", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._answer)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield engine, f"tcp://127.0.0.1:{server.server_port}"
        finally:
            for container in list(engine.containers.values()):
                container.remove()
            server.shutdown()
            thread.join()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
