"""Workers that are containers: how they are made, what may befall them, and that nothing of them is left."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import tarfile
from contextlib import suppress

import docker.errors
import httpx
import pytest

from tests.cli.command import run
from tests.cli.command import serving as serving_command
from tests.docker.dockerfile import PROJECT
from tests.limits import PATIENCE_S
from tests.workers.kinds import WORKER_IMAGE

EXAMPLE = PROJECT / "examples/worker"


def engine_of():
    """Where the engine is, for a command."""
    return {name: os.environ[name] for name in ("DOCKER_HOST", "PATH") if name in os.environ}


def until(condition):
    """Ask again and again; the run's own limit ends what never comes."""
    while not (found := condition()):
        pass
    return found


# What they are


def test_the_image_you_deploy_is_served_as_it_is(tmp_path, left):
    with serving_command(tmp_path, "--image", WORKER_IMAGE, "--idle-timeout", "1s", **engine_of()) as served:
        body = served.post("/v2/local/runsync?wait=300000", {"input": {"name": "Ada"}})
        assert (body["status"], body["output"]) == ("COMPLETED", {"greeting": "Hello, Ada!"})
        [worker] = served.get("/_emulator/workers")["workers"]
        assert (worker["kind"], worker["id"]) == ("docker", body["workerId"])
        lines = served.get(f"/_emulator/jobs/{body['id']}/logs")["lines"]
        assert "Started." in [line["text"] for line in lines]
        # Idle for long enough, it goes.
        until(lambda: not left())
        assert served.get("/_emulator/workers")["workers"] == []
    [row] = [row for row in served.rows("handler") if WORKER_IMAGE in row]
    assert "linux/" in row


def test_a_table_of_the_file_names_an_image(tmp_path, left):
    (tmp_path / "emulator.toml").write_text(
        f'[endpoints.pictures]\nimage = "{WORKER_IMAGE}"\nmemory = "512m"\nenv = {{ MODEL = "tiny" }}\n'
    )
    with serving_command(tmp_path, **engine_of()) as served:
        body = served.post("/v2/pictures/runsync?wait=300000", {"input": {"name": "Ada"}})
        assert body["output"] == {"greeting": "Hello, Ada!"}
        [container] = left()
        settings = container.attrs
    assert settings["HostConfig"]["Memory"] == 512 * 1024**2
    assert "MODEL=tiny" in settings["Config"]["Env"]


def test_a_container_is_made_as_it_was_asked_for(serving, tmp_path):
    (volume := tmp_path / "volume").mkdir()
    (volume / "weights.bin").touch()
    settings = {"user": "1234", "shm_size": "32m", "cpus": 0.5}
    with serving(
        container=settings,
        volumes=[str(volume)],
        worker_env={"MODEL": "tiny"},
        worker_args=("--model", "tiny"),
    ) as endpoint:
        seen = endpoint.runsync("look")["output"]
    assert seen.pop("host")
    assert seen == {
        "user": 1234,
        "variable": "tiny",
        "volume": ["weights.bin"],
        "shm": 32 * 1024**2,
        "arguments": ["--model", "tiny"],
        "secrets": [],
    }


def test_a_network_of_the_users_and_the_hosts(serving, engine):
    network = engine.networks.create("runpod-emulator-test")
    try:
        for name in (network.name, "host"):
            with serving(container={"network": name}) as endpoint:
                assert endpoint.runsync("hello")["output"] == "hello"
    finally:
        network.remove()


def test_strangers_are_not_let_in_where_containers_are(serving):
    with serving() as endpoint:
        endpoint.runsync("hello")
        door = endpoint.emulator.worker_url("ep")
        [worker] = endpoint.workers()
        for path in (
            "/v2/ep/run",
            "/v2/ep/health",
            "/_emulator/health",
            f"/v2/ep/job-take/{worker['id']}?gpu=none",
            f"/v2/ep/job-take/{worker['id']}?gpu=none&secret=guessed",
            "/v2/ep/job-take/a-stranger?gpu=none",
        ):
            answer = httpx.get(door + path, headers={"authorization": "x"}, trust_env=False)
            assert answer.status_code == 403, path


# How they end


@pytest.mark.parametrize(("code", "told"), [(7, "exit code 7"), (137, "SIGKILL")])
def test_a_death_is_seen_at_once_and_explained(serving, code, told):
    with serving(rate=20) as endpoint:
        body = endpoint.runsync("exit", code=code)
        assert (body["status"], body["retries"]) == ("FAILED", 1)
        assert told in endpoint.reasons(body["id"])


def test_too_much_memory_is_told_by_the_engines_own_word(serving):
    with serving(rate=20, container={"memory": "200m"}) as endpoint:
        reasons = endpoint.reasons(endpoint.runsync("memory")["id"])
    assert "out of memory, it needed more than its limit of 200m (the engine says OOMKilled)" in reasons


def test_a_gigabyte_of_output_slows_nobody_down(serving):
    with serving() as endpoint:
        job_id = endpoint.run("print")
        while endpoint.http.get(f"/v2/ep/status/{job_id}").json()["status"] == "IN_QUEUE":
            assert endpoint.http.get("/_emulator/health").status_code == 200
        assert endpoint.ended(job_id)["status"] == "COMPLETED"
        kept = endpoint.http.get(f"/_emulator/jobs/{job_id}/logs").json()["lines"]
        assert sum(len(line["text"]) for line in kept) <= 256 * 1024
        assert any("the rest of this second's output is not shown" in line["text"] for line in kept)


def test_a_handler_that_runs_too_long_is_killed(serving):
    with serving(execution_timeout_ms=5_000, rate=5, stop_grace_ms=0) as endpoint:
        body = endpoint.runsync("sleep")
        assert (body["status"], body["error"]) == ("FAILED", "executionTimeout exceeded")
        assert endpoint.runsync("hello")["workerId"] != body.get("workerId")


def test_an_image_that_ignores_the_signal_to_stop_is_ended(serving, left):
    deaf = ("sh", "-c", "trap '' TERM; python -u /work/worker.py & wait; wait; sleep 3600")
    with serving(command=deaf, idle_timeout_s=0.1) as endpoint:
        assert endpoint.runsync("hello")["output"] == "hello"
        until(lambda: not left())


def test_a_parked_worker_is_paused_and_goes_on_where_it_was(serving, left):
    with serving(flashboot=True, idle_timeout_s=0.1) as endpoint:
        first = endpoint.runsync("hello")
        until(lambda: [each.status for each in left()] == ["paused"])
        second = endpoint.runsync("hello")
        assert second["workerId"] == first["workerId"]
        assert second.get("retries") is None
        until(lambda: [each.status for each in left()] == ["paused"])


def test_a_name_that_points_to_another_image_is_taken_up(serving, engine, left):
    name = "runpod-emulator-test-moving"
    engine.images.get(WORKER_IMAGE).tag(name)
    try:
        with serving(image=name) as endpoint:
            first = endpoint.runsync("hello")
            made, _ = engine.images.build(
                fileobj=io.BytesIO(f"FROM {WORKER_IMAGE}\nENV NEWER=yes\n".encode()), tag=name
            )
            assert endpoint.call(endpoint.emulator.reload_image, "ep")
            assert not endpoint.call(endpoint.emulator.reload_image, "ep")
            until(lambda: [each.attrs["Image"] for each in left()] == [made.id])
            assert endpoint.runsync("hello")["workerId"] != first["workerId"]
    finally:
        engine.images.remove(name, force=True)


# Why they do not start


def test_an_image_whose_command_is_not_there_says_so(serving):
    with serving(command=("nonsense", "--now")) as endpoint:
        endpoint.run("hello")
        assert (
            f"the command is not in image {WORKER_IMAGE}: give another with --command" in endpoint.obstacle()
        )


def test_an_image_that_ends_without_a_word_says_so(serving):
    with serving(command=("true",)) as endpoint:
        endpoint.run("hello")
        assert "ended with exit code 0 and never asked for a job" in endpoint.obstacle()


def test_an_image_that_never_asks_is_ended_and_told_where_to_ask(serving):
    with serving(command=("sleep", "3600"), worker_env={"RUNPOD_INIT_TIMEOUT": "1"}) as endpoint:
        endpoint.run("hello")
        told = endpoint.obstacle()
        assert "it has not asked for a job within the limit for a start" in told
        assert f"Can it reach {endpoint.emulator.worker_url('ep')}" in told


def test_an_exception_at_the_start_is_told_as_such(serving):
    with serving(command=("python", "-c", "import nonsense")) as endpoint:
        endpoint.run("hello")
        assert "ModuleNotFoundError: No module named 'nonsense'" in endpoint.obstacle()


def test_an_image_for_another_machine_says_so(serving, engine):
    """Its program is none that this machine could run."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        program = tarfile.TarInfo("worker")
        program.mode, program.size = 0o755, 4
        tar.addfile(program, io.BytesIO(b"\x7fELF"))
    imported = engine.api.import_image_from_data(
        archive.getvalue(), repository="runpod-emulator-test-foreign"
    )
    try:
        with serving(image="runpod-emulator-test-foreign", command=("/worker",)) as endpoint:
            endpoint.run("hello")
            told = endpoint.obstacle()
        assert "image runpod-emulator-test-foreign is for linux/" in told
        assert "build it with --platform linux/" in told
    finally:
        engine.images.remove(json.loads(imported.splitlines()[-1])["status"], force=True)


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


# Nothing is left


def test_what_a_killed_emulator_leaves_the_next_one_removes(tmp_path, left):
    arguments = ["--image", WORKER_IMAGE, "--workers-min", "2"]
    for clean_up in ("serve", "prune"):
        with serving_command(tmp_path, *arguments, **engine_of()) as served:
            until(lambda: len(left()) == 2)
            served.stop(signal.SIGKILL)
        orphans = {each.id for each in left()}
        assert len(orphans) == 2
        if clean_up == "prune":
            done = run(tmp_path, "workers", "prune", **engine_of())
            assert (done.returncode, done.stdout) == (0, "2 containers removed\n")
        else:
            with serving_command(tmp_path, "--image", WORKER_IMAGE, **engine_of()) as served:
                assert "removed 2 containers that an emulator had left behind" in served.log
        assert not left()


def test_those_of_an_emulator_that_runs_are_left_alone(tmp_path, left):
    with serving_command(tmp_path, "--image", WORKER_IMAGE, "--workers-min", "1", **engine_of()):
        until(left)
        done = run(tmp_path, "workers", "prune", "--json", **engine_of())
        assert json.loads(done.stdout) == {"removed": []}


def test_a_hundred_jobs_survive_twenty_killings(serving, engine):
    chance, killed = random.Random(17), 0
    # Four at a time: the SDK's own pause of a second is not what is tested.
    several = {"AT_A_TIME": "4"}
    with serving(workers_min=3, workers_max=3, rate=20, worker_env=several) as endpoint:
        jobs = {endpoint.run("nap", number=number): number for number in range(100)}
        while killed < 20:
            at_work = [each["id"] for each in endpoint.workers() if each["state"] == "running"]
            if at_work and not all(map(endpoint.has_ended, jobs)):
                with suppress(docker.errors.APIError):
                    engine.containers.get(f"runpod-worker-{chance.choice(at_work)}").kill()
                    killed += 1
        for job_id, number in jobs.items():
            body = endpoint.ended(job_id)
            retries = body.get("retries", 0)
            assert (body["status"], body.get("output")) == ("COMPLETED", number) or retries == 1
            assert retries <= 1
        counts = endpoint.http.get("/v2/ep/health").json()["jobs"]
        assert counts["completed"] + counts["failed"] == 100
        assert (counts["inQueue"], counts["inProgress"]) == (0, 0)


# One job, and the Hub's tests


def test_one_job_through_an_image(tmp_path, left):
    done = run(tmp_path, "invoke", "--image", WORKER_IMAGE, "--input", '{"name": "Ada"}', **engine_of())
    assert (done.returncode, json.loads(done.stdout)) == (0, {"greeting": "Hello, Ada!"})
    done = run(tmp_path, "invoke", "--image", WORKER_IMAGE, "--input", '{"nam": 1}', **engine_of())
    assert done.returncode == 1
    assert "KeyError" in done.stderr
    assert not left()


def test_the_hubs_tests_against_an_image(tmp_path, left):
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
    assert not left()


def test_the_image_of_the_example_is_what_its_dockerfile_says():
    """It is the one that `make test-docker` builds of it: nothing else is tested here."""
    told = subprocess.run(
        ["docker", "run", "--rm", WORKER_IMAGE, "cat", "handler.py"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    assert told.stdout == (EXAMPLE / "handler.py").read_text()
