"""A disk that is full while jobs come, and has room again."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress

import pytest

from tests.cli.command import serving

SIZE = 4 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path):
    """Leave no room on its disk."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def test_what_was_answered_is_kept_and_all_goes_on_once_there_is_room(tmp_path, small_disk):
    options = ("--state", str(small_disk / "state.db"), "--worker-kind", "external", "--no-rate-limits")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (SIZE // 2))
    accepted, refused = [], 0
    with serving(tmp_path, *options) as server:
        while refused < 5:
            answer = server.request("POST", "/run", json={"input": "y" * 20_000})
            if answer.status_code == 200:
                accepted.append(answer.json()["id"])
            else:
                assert answer.status_code == 500
                assert "nothing can be made durable" in answer.json()["error"]
                refused += 1
        listed = server.get("/requests?limit=1000")["requests"]
        assert [job["id"] for job in listed] == accepted[::-1]
        server.stop(signal.SIGKILL)
    ballast.unlink()
    with serving(tmp_path, *options) as server:
        listed = server.get("/requests?limit=1000")["requests"]
        assert [job["id"] for job in listed] == accepted[::-1]
        fill(ballast)
        while server.request("POST", "/run", json={"input": "y" * 20_000}).status_code == 200:
            pass
        ballast.unlink()
        assert server.request("POST", "/run", json={"input": 1}).status_code == 200
        taken = server.get("/job-take/w1?job_in_progress=0")
        assert taken["id"] == accepted[0]
