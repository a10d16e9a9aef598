"""What `serve` loads before it is ready: the control API waits until it is first asked for something."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from tests.conformance.served import environment
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

#: Importing one of them takes as long as all the rest of a start.
HEAVY = {"fastapi", "starlette", "httpx", "rich"}


def test_a_start_and_jobs_load_no_framework_and_the_control_api_does(tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text("def handler(job):\n    return job['input']\n")
    command = [sys.executable, "-m", "emulator", "serve", "echo.py:handler", "--port", "0"]
    imports = tmp_path / "imports.txt"
    with (
        imports.open("w") as told,
        subprocess.Popen(
            [*command, "--worker-kind", "inline", "--log-level", "warning"],
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            cwd=tmp_path,
            env=environment(tmp_path, PYTHONPROFILEIMPORTTIME="1"),
        ) as emulator,
    ):
        try:
            assert emulator.stdout is not None
            said = list(iter(emulator.stdout.readline, "Ready.\n"))
            url = next(line.split()[1] for line in said if line.startswith("  url"))
            with httpx.Client(base_url=url, timeout=PATIENCE_S) as http:
                job = http.post("/v2/local/runsync", json={"input": 1}, headers={"authorization": "any"})
                assert job.json()["output"] == 1
                assert not HEAVY & loaded(imports)
                assert http.get("/_emulator/health").json()["status"] == "ok"
            assert "fastapi" in loaded(imports)
        finally:
            emulator.send_signal(signal.SIGTERM)


def loaded(imports: Path) -> set[str]:
    """The modules that have been imported, as `-X importtime` tells of them."""
    return {line.rpartition("|")[2].strip() for line in imports.read_text().splitlines()}
