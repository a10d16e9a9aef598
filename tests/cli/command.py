"""The command line as a user runs it: in a process, with a folder and an environment of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

import emulator
from tests import stand_ins
from tests.cli.forks import run_in_fork
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

#: On a busy machine a start may outlast what the scaler waits for, and a look at the worker its idle timeout.
ONE_WORKER = ("--workers-min", "1", "--workers-max", "1")
_ROOT = Path(emulator.__file__).parents[1]


def environment(**variables: str) -> dict[str, str]:
    """This one without our settings, with `variables`."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("EMULATOR_", "RUNPOD_"))
    }
    return {**kept, "PYTHONPATH": f"{_ROOT}{os.pathsep}{stand_ins.FOLDER}", "NO_PROXY": "*", **variables}


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return run_in_fork(arguments, folder, environment(**variables))


class Serving:
    """`runpod-emulator serve` in a process; `banner` is what it has printed up to and with `Ready.`."""

    def __init__(self, process: subprocess.Popen[str], banner: list[str], errors: Path) -> None:
        self.process = process
        self.banner = banner
        self._errors = errors
        self.url = next(line.split()[1] for line in banner if line.startswith("  url "))

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return self._errors.read_text()

    def unhealthy_workers(self) -> list[dict[str, Any]]:
        """Wait until there are some: they are for a second, and then they start again."""
        while True:
            workers = self.get("/_emulator/workers")["workers"]
            if unhealthy := [worker for worker in workers if worker["state"] == "unhealthy"]:
                return unhealthy
            assert self.process.poll() is None, self.log

    def logs(self, text: str) -> bool:
        """Whether this is in its log: the lines of a moment are written together, after the answers."""
        while text not in self.log and self.process.poll() is None:
            pass
        return text in self.log

    def rows(self, name: str) -> list[str]:
        """The banner's values under a name."""
        words = [line.split(maxsplit=1) for line in self.banner if line.startswith("  ")]
        return [row[1] for row in words if row[0] == name]

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def post(self, path: str, body: object = None) -> Any:
        return self.ask("POST", path, json=body)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """The body of an answer."""
        return self.request(method, path, **options).json()

    def request(self, method: str, path: str, *, key: str = "local", **options: Any) -> httpx.Response:
        headers = {"authorization": key} if key else {}
        with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
            return client.request(method, self.url + path, headers=headers, **options)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[Serving]:
    """Serve at a free port until the body ends; it must then stop when told to."""
    errors = folder / "stderr.txt"
    at_a_port = [] if "--port" in arguments or "EMULATOR_PORT" in variables else ["--port", "0"]
    with (
        errors.open("w") as error_file,
        subprocess.Popen(
            [sys.executable, "-m", "emulator", "serve", *at_a_port, *arguments],
            cwd=folder,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=error_file,
            text=True,
        ) as process,
    ):
        overdue = threading.Timer(PATIENCE_S, process.kill)
        overdue.start()
        try:
            yield Serving(process, _banner_of(process, errors), errors)
            if process.poll() is None:
                process.terminate()
                assert process.wait() == 0, errors.read_text()
        finally:
            overdue.cancel()
            overdue.join()
            process.kill()


def _banner_of(process: subprocess.Popen[str], errors: Path) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line == "Ready.\n":
            return lines
    raise AssertionError(f"it ended before it was ready: {lines} {errors.read_text()}")
