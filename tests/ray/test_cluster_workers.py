"""Workers on a cluster: what is sent with them, what may befall them, and that nothing of them is left."""

from __future__ import annotations

import logging

import httpx
import psutil
import pytest

from emulator import EmulatorError
from tests.engine.patience import until
from tests.limits import PATIENCE_S
from tests.ray.conftest import actors, handlers, left_on_nodes, living_actors

#: One cluster does for all.
pytestmark = pytest.mark.xdist_group("cluster")
SCRIPT = """\
import runpod
from handler import handler
if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
"""


# What they are


def test_the_handlers_folder_goes_with_it_and_nothing_of_the_emulators(serving, tmp_path, monkeypatch):
    monkeypatch.setenv("EMULATOR_API_KEY", "secret")
    for name in (".git/config", "node_modules/a.js", "data/table.csv", "left-out.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".rayignore").write_text("left-out.txt\n")
    with serving(worker_env={"MODEL": "tiny"}, worker_args=("--fast",)) as endpoint:
        seen = endpoint.runsync("look")["output"]
        door = endpoint.emulator.worker_url("ep")
    files = [name for name in seen.pop("files") if "__pycache__" not in name and name != ".rayignore"]
    assert files == ["beside.py", "data/table.csv", "handler.py"]
    assert seen == {
        "arguments": ["--fast"],
        "variable": "tiny",
        "secrets": [],
        "rays": [],
        "key_is_mine": False,
        "url": door,
    }


@pytest.mark.parametrize("form", ["script", "elsewhere", "module", "command"])
def test_what_runs_as_a_process_runs_on_a_node(serving, tmp_path, form):
    (tmp_path / "worker.py").write_text(SCRIPT)
    (other := tmp_path / "other").mkdir()
    handler = {"script": "worker.py", "elsewhere": str(tmp_path / "worker.py"), "module": "worker"}.get(form)
    settings = {"command": ("python", "-u", "worker.py")} if form == "command" else {}
    if form == "elsewhere":
        settings["workdir"] = other
    with serving(handler=handler, **settings) as endpoint:
        assert endpoint.runsync("hello")["output"] == "hello"


def test_strangers_are_not_let_in_where_nodes_are(serving):
    with serving(workers_min=1, workers_max=1) as endpoint:
        endpoint.runsync("hello")
        door = endpoint.emulator.worker_url("ep")
        [worker] = endpoint.workers()
        assert worker["kind"] == "ray"
        for path in ("/v2/ep/health", f"/v2/ep/job-take/{worker['id']}?gpu=none&secret=guessed"):
            answer = httpx.get(
                door + path, headers={"authorization": "x"}, trust_env=False, timeout=PATIENCE_S
            )
            assert answer.status_code == 403, path


def test_what_a_worker_prints_is_kept_by_worker_and_job_and_in_bounds(serving):
    with serving() as endpoint:
        hello = endpoint.runsync("hello")
        path = f"/_emulator/jobs/{hello['id']}/logs"
        until(lambda: "did hello" in [line["text"] for line in endpoint.http.get(path).json()["lines"]])
        loud = endpoint.runsync("print")
        kept = endpoint.http.get(f"/_emulator/workers/{loud['workerId']}/logs").json()["lines"]
        assert sum(len(line["text"]) for line in kept) <= 1024 * 1024


def test_saved_code_is_taken_up_by_the_next_workers(serving, tmp_path):
    with serving() as endpoint:
        first = endpoint.runsync("version")
        assert first["output"] == 1
        (tmp_path / "beside.py").write_text("VERSION = 2\n")
        assert endpoint.call(endpoint.emulator.reload, "ep")
        until(lambda: first["workerId"] not in [worker["id"] for worker in endpoint.workers()])
        assert endpoint.runsync("version")["output"] == 2
        (tmp_path / "handler.py").write_text("def handler(job: nothing\n")
        with pytest.raises(EmulatorError, match=r"handler\.py failed to load"):
            endpoint.call(endpoint.emulator.reload, "ep")
        assert endpoint.runsync("version")["output"] == 2


# How they end


def test_a_worker_that_is_idle_for_long_enough_gives_its_place_back(serving, cluster):
    with serving(idle_timeout_s=0.1) as endpoint:
        endpoint.runsync("deaf")
        until(lambda: not (living_actors(cluster) or left_on_nodes()))
        assert endpoint.workers() == []


def test_a_parked_worker_goes_on_where_it_was(serving):
    with serving(idle_timeout_s=0.1, flashboot=True) as endpoint:
        first = endpoint.runsync("hello")
        until(lambda: not endpoint.http.get("/v2/ep/health").json()["workers"]["idle"])
        assert endpoint.runsync("hello")["workerId"] == first["workerId"]


@pytest.mark.parametrize(("do", "told"), [("exit", "exit code 7, on node"), ("killed", "SIGKILL")])
def test_a_death_is_seen_at_once_and_explained(serving, do, told):
    with serving(rate=20) as endpoint:
        body = endpoint.runsync(do, code=7)
        assert (body["status"], body["retries"]) == ("FAILED", 1)
        assert told in endpoint.reasons(body["id"])


def test_a_handler_that_runs_too_long_is_killed(serving):
    with serving(execution_timeout_ms=5_000, rate=5, stop_grace_ms=0) as endpoint:
        body = endpoint.runsync("sleep")
        assert (body["status"], body["error"]) == ("FAILED", "executionTimeout exceeded")
        assert endpoint.runsync("hello")["output"] == "hello"


def test_rays_own_process_that_dies_takes_the_worker_along_and_its_job_is_queued_once_more(serving):
    with serving() as endpoint:
        job_id = endpoint.run("sleep")
        [actor] = until(lambda: endpoint.workers()[0]["state"] == "running" and actors())
        [process] = handlers()
        actor.kill()
        until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
        until(lambda: "or Ray's process on it, has died" in endpoint.reasons(job_id))
        until(lambda: endpoint.http.get(f"/v2/ep/status/{job_id}").json()["status"] == "IN_PROGRESS")
        assert endpoint.http.get(f"/v2/ep/status/{job_id}").json()["retries"] == 1


def test_what_a_handler_has_started_ends_with_its_worker(serving):
    with serving() as endpoint:
        child = psutil.Process(endpoint.runsync("child")["output"])
        assert child.is_running()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


# Why they do not start


def test_an_exception_at_the_start_is_told_as_such(serving, tmp_path):
    (tmp_path / "beside.py").write_text("import nonsense\n")
    with serving() as endpoint:
        endpoint.run("hello")
        told = endpoint.obstacle()
    assert "ModuleNotFoundError: No module named 'nonsense'" in told
    assert "it must be there for the Ray of each node" in told


def test_a_place_that_no_node_has_is_waited_for_and_told(serving, caplog):
    caplog.set_level(logging.WARNING, "emulator")
    with serving(placement={"resources": {"license": 1}}) as endpoint:
        job_id = endpoint.run("hello")
        until(lambda: "it needs 1 CPU, 1 license, and none of its 1 nodes has that much" in caplog.text)
        assert endpoint.http.get(f"/v2/ep/status/{job_id}").json()["status"] == "IN_QUEUE"


def test_workers_are_no_more_than_there_are_places(serving):
    with serving(
        placement={"num_cpus": 0.5, "resources": {"scratch": 1}}, workers_min=3, workers_max=3
    ) as endpoint:
        until(lambda: len(handlers()) == 2)
        states = sorted(worker["state"] for worker in endpoint.workers())
        assert states.count("initializing") >= 1
