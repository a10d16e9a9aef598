"""`serve` with workers on a cluster of its own, and what it says when there is none to be had."""

from __future__ import annotations

import signal

import pytest

from tests.cli.command import run, serving
from tests.engine.patience import until
from tests.ray.conftest import HANDLER, handlers, left_on_nodes, processes

_OF_CLUSTER = ("gcs_server", "raylet/raylet", "emulator.workers.cluster.driver")
pytestmark = pytest.mark.xdist_group("commands")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "handler.py").write_text(HANDLER)
    (tmp_path / "beside.py").write_text("VERSION = 1\n")
    # Of tests before, too.
    until(lambda: not rays())
    return tmp_path


def rays():
    """What there is of Ray on this machine."""
    return [*processes(*_OF_CLUSTER, "ray::"), *left_on_nodes()]


def test_a_handler_is_served_on_a_cluster_that_ends_with_it(folder):
    options = ["--worker-kind", "ray", "--num-cpus", "0.5", "--idle-timeout", "1s", "--workers-max", "1"]
    with serving(folder, "handler.py:handler", *options) as served:
        # The first call of the control API takes longest.
        served.get("/_emulator/workers")
        body = served.post("/v2/local/runsync?wait=300000", {"input": {"do": "hello"}})
        assert (body["status"], body["output"]) == ("COMPLETED", "hello")
        [worker] = served.get("/_emulator/workers")["workers"]
        assert (worker["kind"], worker["id"]) == ("ray", body["workerId"])
        until(lambda: served.get("/_emulator/workers")["workers"] == [])
        until(lambda: not left_on_nodes())
        # Nobody else gets near it.
        listening = [
            connection.laddr.ip
            for process in processes("gcs_server", "raylet/raylet")
            for connection in process.net_connections("tcp")
            if connection.status == "LISTEN"
        ]
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    [row] = served.rows("handler")
    assert row.startswith("handler.py:handler (function) on a Ray cluster of its own (")
    assert not rays()


def test_nothing_is_left_of_an_emulator_that_is_killed(folder):
    table = '[endpoints.local]\nhandler = "handler.py:handler"\nworker-kind = "ray"\nnum-cpus = 0.5\n'
    (folder / "emulator.toml").write_text(f"{table}workers-min = 2\n")
    with serving(folder) as served:
        served.post("/v2/local/run", {"input": {"do": "sleep"}})
        until(lambda: len(handlers()) == 2)
        served.stop(signal.SIGKILL)
    until(lambda: not rays())


def test_a_cluster_that_is_not_there_is_told_of(folder):
    options = ["--port", "0", "--worker-kind", "ray", "--ray-address", "auto"]
    done = run(folder, "serve", "handler.py:handler", *options, RAY_TMPDIR=str(folder))
    assert done.returncode == 2
    assert "the Ray cluster at auto cannot be used (is it up" in " ".join(done.stderr.split())


def test_the_program_that_speaks_to_ray_may_die(folder):
    options = ["--worker-kind", "ray", "--workers-max", "1"]
    with serving(folder, "handler.py:handler", *options) as served:
        job_id = served.post("/v2/local/run", {"input": {"do": "sleep"}})["id"]
        until(handlers)
        until(lambda: served.get(f"/v2/local/status/{job_id}")["status"] == "IN_PROGRESS")
        [driver] = processes("emulator.workers.cluster.driver")
        driver.kill()
        until(lambda: served.get(f"/v2/local/status/{job_id}").get("retries") == 1)
        until(lambda: served.get(f"/v2/local/status/{job_id}")["status"] == "IN_PROGRESS")
        assert "the cluster is out of reach: Ray's driver has ended" in served.log
    # Agents of Ray that nobody has told to end notice that within a minute.
    assert not [*processes(*_OF_CLUSTER), *left_on_nodes()]
