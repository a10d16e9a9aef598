"""Virtual environments with the SDKs that people have, each made when it is first asked for."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import venv
from pathlib import Path

#: Why these: the oldest that images in use still pin · what the `runpod~=1.7.x` of the official worker images
#: resolves to · between the two · the last that keeps its state in a file · today's · what comes.
VERSIONS = ("1.6.2", "1.7.13", "1.8.2", "1.10.0", "1.12.0", "2.0.0rc2")
#: Their loop spins while there is no job.
BUSY_WHEN_IDLE = {"1.7.13", "1.8.2"}
#: They keep the jobs in progress in a file.
WITH_STATE_FILE = ("1.7.13", "1.8.2", "1.10.0")
FOLDER = Path(__file__).parents[2] / ".venv-sdks"


def interpreter(version: str) -> str:
    """The interpreter that has an SDK, and nothing of the emulator.

    The first time it takes some 20 s and the network; then the environment stays, for the next session too.
    """
    folder = FOLDER / f"{version}-py{sys.version_info[0]}.{sys.version_info[1]}"
    FOLDER.mkdir(exist_ok=True)
    # Tests that run at the same time want the same.
    with (FOLDER / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=False)
            _install(folder / "bin" / "python", f"runpod=={version}")
            (folder / "complete").touch()
    return str(folder / "bin" / "python")


def _install(python: Path, requirement: str) -> None:
    """The emulator's own pip does it: to have one in each environment costs more than the SDK."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "-q"]
    done = subprocess.run(
        # What is never imported need not be compiled.
        [*pip, "install", "--no-compile", requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
