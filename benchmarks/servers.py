"""The servers under test: each a process of its own, started, seen ready, and ended with its children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import mkstemp
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Self

from benchmarks.figure import NotMeasured

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"
ROOT = Path(__file__).parent.parent
ECHO_HANDLER = str(ROOT / "handlers" / "echo.py")

#: How long a server may take to come up and to go away.
READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 10.0
_POLL_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKind:
    """How a server is started and spoken to."""

    name: str
    #: The arguments of the Python interpreter; `{port}` stands for the port.
    arguments: tuple[str, ...]
    #: What its paths start with, and the headers it wants.
    base_path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: A path that answers GET with 200 once the server serves.
    probe_path: str
    #: The line it prints once it serves, if it prints one.
    ready_line: str | None = None
    #: What it writes goes to a file that nobody reads, not into a pipe.
    log_to_file: bool = False


BARE = ServerKind(name="bare", arguments=("-m", "benchmarks.bare", "--port", "{port}"), probe_path="/health")
FASTAPI = ServerKind(
    name="bare FastAPI", arguments=("-m", "benchmarks.bare_fastapi", "--port", "{port}"), probe_path="/"
)
#: The same as an async function.
ASYNC_ECHO_HANDLER = str(ROOT / "benchmarks" / "async_echo.py")
_SERVE = ("--rp_serve_api", "--rp_api_host", HOST, "--rp_api_port", "{port}")
#: Of each server one that is quiet, and one that logs as it does when nobody asks it for anything else.
DEV_SERVER = ServerKind(
    name="SDK dev server",
    arguments=(ECHO_HANDLER, *_SERVE, "--rp_log_level", "ERROR"),
    probe_path="/openapi.json",
)
DEV_SERVER_ASYNC = ServerKind(
    name="SDK dev server, async handler",
    arguments=(ASYNC_ECHO_HANDLER, *_SERVE, "--rp_log_level", "ERROR"),
    probe_path="/openapi.json",
)
DEV_SERVER_LOGGING = ServerKind(
    name="SDK dev server, default log", arguments=(ECHO_HANDLER, *_SERVE), probe_path="/openapi.json"
)


def ours(
    *options: str,
    worker_kind: str | None = "inline",
    handler: str | None = ECHO_HANDLER,
    name: str = "ours",
    quiet: bool = True,
    log_to_file: bool = False,
) -> ServerKind:
    """The emulator with a handler, its rate limits out of the way, and further options.

    None as handler or kind of worker: the options say what runs.
    """
    return ServerKind(
        name=name,
        arguments=(
            *("-m", "emulator", "serve", *([handler] if handler else ()), "--port", "{port}"),
            *("--endpoint", "bench", *(("--worker-kind", worker_kind) if worker_kind else ())),
            *(("--log-level", "warning") if quiet else ()),
            *("--rate-limit-scale", "1000000", *options),
        ),
        base_path="/v2/bench",
        headers={"Authorization": "Bearer bench"},
        probe_path="/v2/bench/health",
        ready_line="Ready.",
        log_to_file=log_to_file,
    )


class Server:
    """A running server; a `with` block ends it, whatever happens."""

    def __init__(self, kind: ServerKind) -> None:
        self.kind = kind
        self.port = _free_port()
        #: Seconds from its start to its ready line, once that has been printed.
        self.ready_line_after_s: float | None = None
        self._last_lines: deque[str] = deque(maxlen=15)
        self._log_file: int | None = None
        if kind.log_to_file:
            self._log_file, path = mkstemp()
            # It is there for as long as somebody has it open.
            Path(path).unlink()
        self._started = perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, *(argument.format(port=self.port) for argument in kind.arguments)],
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if self._log_file is None else self._log_file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        if self._log_file is None:
            self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self._process.pid

    def wait_until_ready(self) -> float:
        """Seconds from the start of the process to its first 200.

        :raises NotMeasured: it ended or did not get there in time.
        """
        while True:
            if self._answers():
                return perf_counter() - self._started
            if self._process.poll() is not None:
                raise NotMeasured(
                    f"{self.kind.name} ended with code {self._process.returncode}{self._tail()}"
                )
            if perf_counter() - self._started > READY_WITHIN_S:
                raise NotMeasured(f"{self.kind.name} was not ready within {READY_WITHIN_S:g} s{self._tail()}")
            sleep(_POLL_S)

    def wait_for_ready_line(self) -> float:
        """Seconds from the start of the process to its ready line.

        :raises NotMeasured: it is not there although the server has had time to print it.
        """
        deadline = perf_counter() + 1
        while self.ready_line_after_s is None:
            if perf_counter() > deadline:
                raise NotMeasured(f"{self.kind.name} never printed {self.kind.ready_line!r}{self._tail()}")
            sleep(_POLL_S)
        return self.ready_line_after_s

    def stop(self) -> float:
        """End it as Ctrl-C on a service would, by SIGTERM; returns the seconds that took.

        :raises NotMeasured: it had to be killed.
        """
        before, killed = perf_counter(), False
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                killed = True
        took_s = perf_counter() - before
        # Its session is its own: whatever is left in it was started by it.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._log_file is None:
            self._reader.join(1)
        else:
            os.close(self._log_file)
        if killed:
            raise NotMeasured(f"{self.kind.name} did not end within {STOPPED_WITHIN_S:g} s of SIGTERM")
        return took_s

    def _answers(self) -> bool:
        connection = HTTPConnection(HOST, self.port, timeout=READY_WITHIN_S)
        try:
            connection.request("GET", self.kind.probe_path, headers=dict(self.kind.headers))
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode(errors="replace").rstrip()
            if text == self.kind.ready_line:
                self.ready_line_after_s = perf_counter() - self._started
            self._last_lines.append(text)
        self._process.stdout.close()

    def _tail(self) -> str:
        return "".join(f"\n    {line}" for line in self._last_lines)


def _environment() -> dict[str, str]:
    """This process's environment without what would change a server's behaviour."""
    ours_and_the_sdks = ("EMULATOR_", "RUNPOD_", "UVICORN_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours_and_the_sdks)}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port
