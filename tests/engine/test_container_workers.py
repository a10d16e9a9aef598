"""Workers that are containers: how they are made, what may befall them, and that nothing of them is left."""

from __future__ import annotations

import io
import json
import random
import subprocess
import tarfile
from contextlib import suppress

import docker.errors
import httpx
import pytest

from tests.docker.dockerfile import PROJECT
from tests.engine.patience import until
from tests.limits import PATIENCE_S
from tests.workers.kinds import WORKER_IMAGE

EXAMPLE = PROJECT / "examples/worker"


# What they are


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
    with serving(workers_min=1, workers_max=1) as endpoint:
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
            answer = httpx.get(
                door + path, headers={"authorization": "x"}, trust_env=False, timeout=PATIENCE_S
            )
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
    deaf = ("sh", "-c", "trap '' TERM; python -u /app/worker.py & wait; wait; sleep 3600")
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


# Nothing is left


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


def test_the_image_of_the_example_is_what_its_dockerfile_says():
    """It is the one that `make test-docker` builds of it: nothing else is tested here."""
    told = subprocess.run(
        ["docker", "run", "--rm", WORKER_IMAGE, "cat", "handler.py"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    assert told.stdout == (EXAMPLE / "handler.py").read_text()
