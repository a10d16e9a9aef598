"""An emulator as its users run it: a process of its own, found by what it prints, stopped by its id."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import IO, TYPE_CHECKING, Any

import httpx
import pytest

from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
#: The only one that the tests' emulators accept.
KEY = "the-right-key"

_PASS = {"authorization": f"Bearer {KEY}"}

on_frozen_clock = pytest.mark.parametrize("emulator", ["frozen"], indirect=True)


class Served:
    """A served emulator, and what no SDK can do to it."""

    def __init__(self, url: str, http: httpx.Client, log_path: Path) -> None:
        self.url = url
        #: What SDKs are pointed at.
        self.base_url = f"{url}/v2"
        self._http = http
        self._log_path = log_path
        self._log_start = 0

    def reset(self) -> None:
        """Forget all jobs, counters and rate windows."""
        self.post("/_emulator/reset")
        self._log_start = len(self._log_path.read_text())

    def log(self) -> str:
        """What the emulator has logged since it was reset."""
        return self._log_path.read_text()[self._log_start :]

    def logs(self, text: str) -> bool:
        """Whether this is in its log: the lines of a moment are written together, after the answers."""
        return any(text in self.log() for _ in range(1_000) if self.get("/_emulator/health"))

    def advance(self, ms: int) -> None:
        """Move the frozen clock."""
        self.post("/_emulator/clock/advance", {"by_ms": ms})

    def get(self, path: str) -> Any:
        """Ask for something and return the answer's JSON."""
        return self._json(self._http.get(path))

    def post(self, path: str, body: object = None) -> Any:
        """Have something done and return the answer's JSON."""
        return self._json(self._http.post(path, json=body))

    @staticmethod
    def _json(answer: httpx.Response) -> Any:
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def served(home: Path, *arguments: str) -> Iterator[Served]:
    """Run `python -m emulator serve ARGUMENTS --port 0`; its log goes to a file in `home`."""
    command = [sys.executable, "-m", "emulator", "serve", *arguments, "--port", "0"]
    log_path = home / "emulator.log"
    with (
        log_path.open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=environment(home), stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            url = _url_in_banner(process)
            assert url, f"the emulator did not start:\n{log_path.read_text()}"
            with httpx.Client(base_url=url, headers=_PASS, timeout=PATIENCE_S, trust_env=False) as http:
                yield Served(url, http, log_path)
        finally:
            process.terminate()
            with _limited(process):
                process.wait()
    assert process.returncode == 0, f"the emulator did not stop by itself:\n{log_path.read_text()}"


def environment(home: Path, **variables: str) -> dict[str, str]:
    """This process's variables without those that change the SDKs or the emulator."""
    prefixes = ("EMULATOR_", "RUNPOD_")
    others = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**others, "HOME": str(home), "NO_PROXY": "*", "no_proxy": "*", **variables}


def _url_in_banner(process: subprocess.Popen[str]) -> str | None:
    assert process.stdout is not None
    with _limited(process):
        return _read_url(process.stdout)


def _read_url(banner: IO[str]) -> str | None:
    url = None
    for line in banner:
        match line.split():
            case ["url", value]:
                url = value
            case ["Ready."]:
                return url
    return None


@contextmanager
def _limited(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process that keeps us waiting; the wait then ends as well."""
    timer = Timer(PATIENCE_S, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
