"""Workers that share a folder, with an SDK that keeps its jobs in progress there: none hears of another's.

With 1.7.13, which the official worker images resolve to; others in `test_sdk_versions.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.api.client import served
from tests.cli.command import environment, run, serving
from tests.long import sdks

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """\
import os, time
import runpod

def handler(job):
    wish = job["input"]
    if "begun" in wish and not os.path.exists(wish["begun"]):
        open(wish["begun"], "w").close()
        time.sleep(600)
    time.sleep(wish.get("sleep", 0))
    return wish

runpod.serverless.start({"handler": handler})
"""
STATE_FILE = ".runpod_jobs.pkl"


@pytest.fixture(scope="module")
def python():
    return sdks.interpreter("1.7.13")


@pytest.fixture
def job_count():
    return 6


@pytest.fixture
def folder(tmp_path, python) -> Path:
    """A project in which the SDK has left a job in progress, by itself."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "handler.py").write_text(SCRIPT)
    (tmp_path / "temporary").mkdir()
    leave = "from runpod.serverless.modules.worker_state import JobsProgress; JobsProgress().add('of-old')"
    subprocess.run([python, "-c", leave], cwd=project, env=environment(), check=True)
    assert (project / STATE_FILE).stat().st_size
    (project / f"{STATE_FILE}.lock").unlink(missing_ok=True)
    return project


def own_workers(folder: Path, python: str, count: int = 1):
    """Serve the project with so many workers, and a folder for temporary files that nobody else uses."""
    workers = ["--workers-min", str(count), "--workers-max", str(count)]
    return serving(
        folder, "handler.py", "--python", python, *workers, TMPDIR=str(folder.parent / "temporary")
    )


def ended(emulator, job_ids: list[str]) -> list[dict[str, object]]:
    return [emulator.get(f"/v2/local/status-sync/{job_id}") for job_id in job_ids]


def assert_nothing_is_left(folder: Path, before: bytes) -> None:
    """Of the state of ours; that of old is as it was."""
    while any((folder.parent / "temporary").iterdir()):
        pass
    assert {path.name for path in folder.iterdir()} <= {"handler.py", STATE_FILE, "stderr.txt", "begun"}
    assert (folder / STATE_FILE).read_bytes() == before


def test_two_workers_share_the_jobs(folder, python, job_count):
    before = (folder / STATE_FILE).read_bytes()
    with own_workers(folder, python, 2) as emulator:
        # Both are up, or one might have done all there is to do.
        while emulator.get("/v2/local/health")["workers"]["idle"] < 2:
            assert emulator.process.poll() is None
        wishes = [{"sleep": number % 4 / 4} for number in range(job_count)]
        bodies = ended(emulator, [emulator.post("/v2/local/run", {"input": wish})["id"] for wish in wishes])
        assert [body.get("output") for body in bodies] == wishes
        assert not any("retries" in body for body in bodies)
        assert len({body["workerId"] for body in bodies}) == 2
    assert_nothing_is_left(folder, before)


def test_a_worker_that_is_killed_with_a_job_takes_jobs_again(folder, python):
    before = (folder / STATE_FILE).read_bytes()
    with own_workers(folder, python) as emulator:
        job_id = emulator.post("/v2/local/run", {"input": {"begun": str(folder / "begun")}})["id"]
        while not (folder / "begun").exists():
            assert emulator.process.poll() is None
        [worker] = emulator.get("/_emulator/workers")["workers"]
        os.kill(worker["process_id"], 9)
        [body] = ended(emulator, [job_id])
        assert (body["status"], body["retries"], body["workerId"]) == ("COMPLETED", 1, worker["id"])
        assert emulator.post("/v2/local/runsync", {"input": {"a": 1}})["output"] == {"a": 1}
    assert_nothing_is_left(folder, before)


def test_an_emulator_after_one_that_was_killed_with_a_job_serves_on(folder, python):
    before = (folder / STATE_FILE).read_bytes()
    with own_workers(folder, python) as emulator:
        emulator.post("/v2/local/run", {"input": {"begun": str(folder / "begun")}})
        while not (folder / "begun").exists():
            assert emulator.process.poll() is None
        emulator.process.kill()
        emulator.process.wait()
        assert_nothing_is_left(folder, before)
    with own_workers(folder, python) as emulator:
        assert emulator.post("/v2/local/runsync", {"input": {"a": 1}})["output"] == {"a": 1}
    assert_nothing_is_left(folder, before)


def test_a_test_that_times_out_does_not_keep_later_ones_from_running(folder, python):
    before = (folder / STATE_FILE).read_bytes()
    tests = [
        {"name": "endless", "input": {"sleep": 600}, "timeout": 500},
        *({"name": name, "input": {"name": name}} for name in ("second", "third")),
    ]
    (folder.parent / "tests.json").write_text(json.dumps({"tests": tests}))
    for _ in range(2):
        tested = run(
            folder, "test", "../tests.json", "--python", python, "--json",
            TMPDIR=str(folder.parent / "temporary"),
        )  # fmt: skip
        results = {test["name"]: test["result"] for test in json.loads(tested.stdout)["tests"]}
        assert results == {"endless": "timed_out", "second": "passed", "third": "passed"}
        assert_nothing_is_left(folder, before)


# How it gets there


ASKS = """\
import sys, os

def handler(job):
    def about(name):
        module = sys.modules.get(name)
        return [getattr(module, "__file__", None), getattr(module, "SAYS", None)]
    paths = [path for path in sys.path if path.endswith(("on_path", "mine"))]
    site, mine = about("sitecustomize"), about("mine")
    return {"site": site, "mine": mine, "paths": paths, "sdk": "runpod" in sys.modules}
"""


def asked(tmp_path, **variables):
    (tmp_path / "ask.py").write_text(ASKS)
    done = run(tmp_path, "invoke", "ask.py:handler", "--input", "1", "--worker-kind", "process", **variables)
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("by", ["PYTHONPATH", "EMULATOR_WORKER_ENV_PYTHONPATH"])
def test_the_users_path_and_what_it_runs_at_the_start_of_python_stay(tmp_path, by):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "sitecustomize.py").write_text("import mine\nSAYS = 'hello'\n")
    (mine / "mine.py").write_text("SAYS = 'me too'\n")
    paths = os.pathsep.join([str(mine), environment()["PYTHONPATH"]])
    assert asked(tmp_path, **{by: paths})[0] == {
        "site": [str(mine / "sitecustomize.py"), "hello"],
        "mine": [str(mine / "mine.py"), "me too"],
        "paths": [str(mine)],
        "sdk": False,
    }


def test_what_the_users_start_of_python_raises_is_shown_as_ever(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import no_such_module\n")
    without = subprocess.run(
        [sys.executable, "-c", ""], env=environment(PYTHONPATH=str(tmp_path)), capture_output=True, text=True
    )
    paths = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    answer, shown = asked(tmp_path, EMULATOR_WORKER_ENV_PYTHONPATH=paths)
    assert answer["paths"] == []
    assert without.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert without.stderr.splitlines()[-1] in shown


def test_nothing_is_imported_and_nothing_shown_when_there_is_none(tmp_path):
    answer, shown = asked(tmp_path)
    assert (answer["mine"], answer["paths"], answer["sdk"], shown) == ([None, None], [], False, "")


@pytest.mark.anyio
async def test_where_nothing_can_be_written_there_are_workers_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "ask.py").write_text(ASKS)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    async with served(f"{tmp_path}/ask.py:handler", worker_kind="process") as client:
        assert (await client.runsync(1))["output"]["sdk"] is False
