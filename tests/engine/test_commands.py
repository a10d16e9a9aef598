"""The commands with an image. What these leave when they are killed, any emulator of this machine removes:
so they are run when no other test is.
"""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.cli.command import run, serving
from tests.engine.patience import until
from tests.workers.kinds import WORKER_IMAGE


def engine_of():
    """Where the engine is, for a command."""
    return {name: os.environ[name] for name in ("DOCKER_HOST", "PATH") if name in os.environ}


def test_the_image_you_deploy_is_served_as_it_is(tmp_path, left_by_commands):
    options = ["--image", WORKER_IMAGE, "--idle-timeout", "1s", "--workers-max", "1"]
    with serving(tmp_path, *options, **engine_of()) as served:
        # The first call of the control API takes longest.
        served.get("/_emulator/workers")
        body = served.post("/v2/local/runsync?wait=300000", {"input": {"name": "Ada"}})
        assert (body["status"], body["output"]) == ("COMPLETED", {"greeting": "Hello, Ada!"})
        [worker] = served.get("/_emulator/workers")["workers"]
        assert (worker["kind"], worker["id"]) == ("docker", body["workerId"])
        lines = served.get(f"/_emulator/jobs/{body['id']}/logs")["lines"]
        assert "Started." in [line["text"] for line in lines]
        # Idle for long enough, it goes.
        until(lambda: not left_by_commands())
        assert served.get("/_emulator/workers")["workers"] == []
    [row] = [row for row in served.rows("handler") if WORKER_IMAGE in row]
    assert "linux/" in row


def test_a_table_of_the_file_names_an_image(tmp_path, left_by_commands):
    (tmp_path / "emulator.toml").write_text(
        f'[endpoints.pictures]\nimage = "{WORKER_IMAGE}"\nmemory = "512m"\nenv = {{ MODEL = "tiny" }}\n'
    )
    with serving(tmp_path, **engine_of()) as served:
        body = served.post("/v2/pictures/runsync?wait=300000", {"input": {"name": "Ada"}})
        assert body["output"] == {"greeting": "Hello, Ada!"}
        [container] = left_by_commands()
        settings = container.attrs
    assert settings["HostConfig"]["Memory"] == 512 * 1024**2
    assert "MODEL=tiny" in settings["Config"]["Env"]


@pytest.mark.parametrize(
    ("arguments", "engine_at", "sentence"),
    [
        ([], "unix:///nowhere/docker.sock", "no Docker engine answers at /nowhere/docker.sock: start Docker"),
        (["--network", "nonsense"], None, "--network is 'nonsense', and the engine has none of this name"),
        (["--volume", "/nowhere"], None, "--volume: there is no folder /nowhere: make it, or name another"),
        (["--memory", "much"], None, "--memory is 'much': it must be a size such as 512m or 8g"),
        (["handler.py"], None, "there is a handler (handler.py) and an image"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(tmp_path, arguments, engine_at, sentence):
    variables = engine_of() | ({"DOCKER_HOST": engine_at} if engine_at else {})
    done = run(tmp_path, "serve", "--port", "0", "--image", WORKER_IMAGE, *arguments, **variables)
    assert done.returncode == 2
    assert sentence in done.stderr.replace("\n", " ")


def test_an_image_that_is_nowhere_is_refused_with_what_to_do(tmp_path):
    # Port 9 is nobody's: a registry that does not answer.
    image = "127.0.0.1:9/nobody/has-this:1"
    done = run(tmp_path, "serve", "--port", "0", "--image", image, **engine_of())
    assert done.returncode == 2
    assert f"there is no image '{image}', and it could not be pulled: build it" in done.stderr


def test_what_a_killed_emulator_leaves_the_next_one_removes(tmp_path, left_by_commands):
    arguments = ["--image", WORKER_IMAGE, "--workers-min", "2"]
    for clean_up in ("serve", "prune"):
        with serving(tmp_path, *arguments, **engine_of()) as served:
            until(lambda: len(left_by_commands()) == 2)
            served.stop(signal.SIGKILL)
        orphans = {each.id for each in left_by_commands()}
        assert len(orphans) == 2
        if clean_up == "prune":
            done = run(tmp_path, "workers", "prune", **engine_of())
            assert (done.returncode, done.stdout) == (0, "2 containers removed\n")
        else:
            with serving(tmp_path, "--image", WORKER_IMAGE, **engine_of()) as served:
                assert served.logs("removed 2 containers that an emulator had left behind")
        assert not left_by_commands()


def test_those_of_an_emulator_that_runs_are_left_alone(tmp_path, left_by_commands):
    with serving(tmp_path, "--image", WORKER_IMAGE, "--workers-min", "1", **engine_of()):
        until(left_by_commands)
        done = run(tmp_path, "workers", "prune", "--json", **engine_of())
        assert json.loads(done.stdout) == {"removed": []}


def test_one_job_through_an_image(tmp_path, left_by_commands):
    done = run(tmp_path, "invoke", "--image", WORKER_IMAGE, "--input", '{"name": "Ada"}', **engine_of())
    assert (done.returncode, json.loads(done.stdout)) == (0, {"greeting": "Hello, Ada!"})
    done = run(tmp_path, "invoke", "--image", WORKER_IMAGE, "--input", '{"nam": 1}', **engine_of())
    assert done.returncode == 1
    assert "KeyError" in done.stderr
    assert not left_by_commands()


def test_the_hubs_tests_against_an_image(tmp_path, left_by_commands):
    tests = {
        "tests": [
            {"name": "greets", "input": {"name": "Ada"}, "expected_output": {"greeting": "Hello, Ada!"}},
            {"name": "is wrong", "input": {"name": "Ada"}, "expected_output": {"greeting": "?"}},
        ],
        "config": {"gpuTypeId": "NVIDIA L4", "env": [{"key": "RUNPOD_LOG_LEVEL", "value": "DEBUG"}]},
    }
    (folder := tmp_path / ".runpod").mkdir()
    (folder / "tests.json").write_text(json.dumps(tests))
    done = run(tmp_path, "test", "--image", WORKER_IMAGE, "--json", **engine_of())
    assert done.returncode == 1
    results = json.loads(done.stdout)
    assert [each["result"] for each in results["tests"]] == ["passed", "failed"]
    assert not left_by_commands()
