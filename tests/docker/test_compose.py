"""The compose files: what each service has, and that a worker with it works."""

import json
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import boto3
import httpx
import pytest

from tests.docker.compose import COMPOSE, EXTERNAL, FILES, S3, variables
from tests.docker.dockerfile import PROJECT
from tests.docker.image import SDK, STAGES, VARIABLES, WORKER
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("service", [file["services"]["emulator"] for file in FILES.values()], ids=FILES)
class TestTheEmulator:
    def test_it_is_built_from_the_dockerfile(self, service):
        assert service["build"]["context"] == "."
        assert service["build"]["target"] in STAGES

    def test_it_serves_this_machine_only(self, service):
        assert service["ports"] == [f"127.0.0.1:8000:{SDK.only('EXPOSE')}"]

    def test_its_settings_are_known(self, service):
        assert set(variables(service)) <= VARIABLES

    def test_its_health_is_checked_as_the_image_does(self, service):
        check = service["healthcheck"]
        assert check["test"] == ["CMD", *SDK.command("HEALTHCHECK")]
        flags = SDK.only("HEALTHCHECK").partition(" CMD ")[0].split()
        assert {key.replace("_", "-"): str(value) for key, value in check.items() if key != "test"} == {
            name: value for name, _, value in (flag.removeprefix("--").partition("=") for flag in flags)
        }

    def test_it_can_write_nowhere_and_reaches_the_host(self, service):
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["extra_hosts"] == ["host.docker.internal:host-gateway"]

    def test_what_ended_processes_leave_behind_is_taken_away(self, service):
        assert service["init"] is True


def test_the_first_file_serves_a_sample_with_the_sdk():
    service = COMPOSE["services"]["emulator"]
    assert service["build"]["target"] == "sdk"
    source, target, mode = service["volumes"][0].split(":")
    assert mode == "ro"
    handler = service["environment"]["EMULATOR_HANDLER"]
    assert (PROJECT / source / Path(handler).relative_to(target)).is_file()


def test_the_two_files_are_two_projects():
    assert "name" not in COMPOSE
    assert "name" not in EXTERNAL


def test_the_worker_can_be_scaled_and_waits_for_the_emulator():
    service = EXTERNAL["services"]["worker"]
    assert not {"container_name", "ports", "hostname"} & set(service)
    assert service["depends_on"] == {"emulator": {"condition": "service_healthy"}}
    assert (PROJECT / service["build"] / "Dockerfile").is_file()


def test_the_worker_runs_its_images_own_command():
    *shell, script = EXTERNAL["services"]["worker"]["command"]
    assert shell == ["sh", "-c"]
    assert script == "RUNPOD_POD_ID=$HOSTNAME exec " + " ".join(WORKER.command("CMD"))


async def test_replicas_of_the_worker_join_the_emulator_and_do_its_jobs(slim, worker, free_port):
    emulator_service, worker_service = EXTERNAL["services"]["emulator"], EXTERNAL["services"]["worker"]
    assert STAGES[emulator_service["build"]["target"]] is slim.stage
    url = f"http://127.0.0.1:{free_port}"
    settings = variables(emulator_service) | {"EMULATOR_HOST": "127.0.0.1", "EMULATOR_PORT": free_port}
    given = {
        name: value.replace("http://emulator:8000", url) for name, value in variables(worker_service).items()
    }
    # Its pings are only logged then.
    given["RUNPOD_LOG_LEVEL"] = "DEBUG"
    before = worker.root.files()
    async with AsyncExitStack() as running:
        running.enter_context(anyio.fail_after(PATIENCE_S))
        client = await running.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S))
        serve = slim.stage.command("ENTRYPOINT") + slim.stage.command("CMD")
        emulator = await running.enter_async_context(slim.running(serve, **settings))
        await emulator.until("\nReady.\n")
        names = ["4a1d0c5b9e27", "9f63b2e8a170"]
        replicas = [
            await running.enter_async_context(
                worker.running(worker_service["command"], **given, HOSTNAME=name)
            )
            for name in names
        ]
        for name, replica in zip(names, replicas, strict=True):
            await emulator.until(f"local worker {name} initializing → idle")
            await replica.until(f"Heartbeat Sent | URL: {url}/v2/local/ping/{name}?", "| Status: 200")
        answer = await client.post(
            f"{url}/v2/local/runsync", json={"input": {"name": "Ada"}}, headers={"authorization": "any"}
        )
        done = answer.json()
        assert done["output"] == {"greeting": "Hello, Ada!"}
        assert done["workerId"] in names
        assert await emulator.stop(signal.SIGTERM) == 0
    assert worker.root.files() == before


def test_the_store_has_the_keys_and_the_bucket_that_workers_get():
    store, emulator = S3["services"]["s3"], S3["services"]["emulator"]
    stage = STAGES[store["build"]["target"]]
    prefix = "EMULATOR_WORKER_ENV_"
    given = {
        name.removeprefix(prefix): value
        for name, value in variables(emulator).items()
        if name.startswith(prefix)
    }
    assert given.pop("BUCKET_ENDPOINT_URL") == f"http://s3:{stage.arguments('EXPOSE')[-1]}"
    assert given == variables(store)
    _, *entrypoint = json.loads(stage.arguments("ENTRYPOINT")[-1])
    assert entrypoint[-2:] == ["--host", "0.0.0.0"]
    command = [sys.executable, *entrypoint[:-2], "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | given) as process:
        try:
            client = boto3.client(
                "s3",
                endpoint_url=f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}",
                aws_access_key_id=given["BUCKET_ACCESS_KEY_ID"],
                aws_secret_access_key=given["BUCKET_SECRET_ACCESS_KEY"],
                region_name="us-east-1",
            )
            client.put_object(Bucket=given["BUCKET_NAME"], Key="x", Body=b"1")
        finally:
            process.kill()
