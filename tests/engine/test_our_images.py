"""Our own images and compose files, run by an engine as README and docs/docker.md say."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from testcontainers.core.config import testcontainers_config

from emulator.testcontainers import RunpodEmulatorContainer
from tests.docker.dockerfile import PROJECT
from tests.limits import PATIENCE_S

SDK, SLIM = "runpod-emulator", "runpod-emulator:slim"
EXTERNAL = PROJECT / "docker-compose.external.yml"
KEY = {"authorization": "any"}


def docker_says(*words, check=True):
    told = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert told.returncode == 0 or not check, told.stderr
    return told.stdout.strip()


@contextmanager
def running(image, *words):
    """A container as docs/docker.md has it run, without rights and with nowhere to write; its id and URL."""
    name = docker_says(
        "run", "--detach", "--init", "-p", "127.0.0.1:0:8000", "--read-only", "--tmpfs", "/tmp",
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "-v", f"{PROJECT}/handlers:/handlers:ro", "--add-host", "host.docker.internal:host-gateway",
        *words, image,
    )  # fmt: skip
    try:
        yield name, f"http://{docker_says('port', name, '8000').splitlines()[0]}"
    finally:
        docker_says("rm", "--force", name)


def state(name):
    return json.loads(docker_says("inspect", "--format", "{{json .State}}", name))


def until_healthy(name):
    while (now := state(name))["Health"]["Status"] != "healthy":
        assert now["Running"], docker_says("logs", name)


def runsync(url, job_input, **fields):
    answer = httpx.post(
        f"{url}/runsync?wait=300000",
        json={"input": job_input, **fields}, headers=KEY, trust_env=False, timeout=PATIENCE_S,
    )  # fmt: skip
    return answer.json()


@pytest.mark.parametrize("image", [SDK, SLIM])
def test_an_image_gets_healthy_does_a_job_without_rights_and_stops_in_time(image):
    with running(image, "-e", "EMULATOR_HANDLER=/handlers/echo.py") as (name, url):
        until_healthy(name)
        assert runsync(url, "hello")["output"] == "hello"
        docker_says("stop", "--time", "60", name)
        assert state(name)["ExitCode"] == 0


@pytest.mark.parametrize("image", [SDK, SLIM])
def test_an_image_whose_handler_is_not_there_ends_with_the_reason(image):
    with running(image, "-e", "EMULATOR_HANDLER=/handlers/nonsense.py") as (name, _):
        assert docker_says("wait", name) == "2"
        told = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
    assert "/handlers/nonsense.py: no such file" in told.stderr


@pytest.fixture
def receiver():
    """A web app on this machine, whose webhook is called from containers."""
    received = threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            received.set()

        def log_message(self, *_):
            """Nothing: pytest shows what fails."""

    with HTTPServer(("0.0.0.0", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        received.port = server.server_port
        yield received
        server.shutdown()
        thread.join()


def test_a_webhook_reaches_a_server_on_the_host(receiver):
    with running(SDK) as (name, url):
        until_healthy(name)
        runsync(url, "hello", webhook=f"http://host.docker.internal:{receiver.port}/hook")
        assert receiver.wait(PATIENCE_S)


def test_three_external_workers_join_by_the_compose_file(tmp_path):
    """With the compose that Debian has, which builds nothing here: its images are there."""
    worker = "runpod-emulator-external_worker"
    docker_says("tag", "runpod-emulator-example-worker", worker)
    file = tmp_path / "docker-compose.yml"
    file.write_text(EXTERNAL.read_text().replace("127.0.0.1:8000:8000", "127.0.0.1::8000"))
    compose = ["docker-compose", "-p", "runpod-emulator-external", "-f", file, "--project-directory", PROJECT]
    environment = {**os.environ, "COMPOSE_HTTP_TIMEOUT": str(PATIENCE_S)}

    def compose_says(*words):
        done = subprocess.run(
            [*compose, *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    try:
        compose_says("up", "--detach", "--no-build", "--scale", "worker=3")
        url = f"http://{compose_says('port', 'emulator', '8000')}"
        assert runsync(url, {"name": "Ada"})["output"] == {"greeting": "Hello, Ada!"}
        workers = []
        while len(workers) < 3:
            workers = httpx.get(f"{url}/_emulator/workers", trust_env=False, timeout=PATIENCE_S).json()[
                "workers"
            ]
        assert {worker["kind"] for worker in workers} == {"external"}
    finally:
        compose_says("down", "--timeout", "2")
        docker_says("rmi", "--no-prune", worker)


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker-compose.external.yml"])
def test_compose_takes_the_files(file):
    done = subprocess.run(
        ["docker-compose", "-f", PROJECT / file, "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_class_for_testcontainers_starts_the_image(monkeypatch, tmp_path):
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    script = tmp_path / "handler.py"
    script.write_text("def handler(job):\n    return job['input'] * 2\n")
    tmp_path.chmod(0o755)
    with (
        RunpodEmulatorContainer(SDK).with_handler(script, "handler") as emulator,
        emulator.client() as client,
    ):
        answer = client.post("/local/runsync?wait=300000", json={"input": 21})
        assert answer.json()["output"] == 42
