"""A Docker engine, and an emulator whose workers are containers; `make test-docker` has both made."""

from __future__ import annotations

from contextlib import contextmanager

import docker
import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from emulator import Clock, Emulator, EndpointConfig
from emulator.core.container import ContainerSettings
from emulator.workers.containers.labels import EMULATOR, ENDPOINT, this_emulator
from tests.limits import PATIENCE_S
from tests.workers.endpoint import Endpoint
from tests.workers.kinds import KEY, WORKER_IMAGE

#: What the containers of these tests run: what a job's input says.
WORKER_SCRIPT = """\
import asyncio, os, socket, sys, time
import runpod

def handler(job):
    do = job["input"]["do"]
    if do == "look":
        return {
            "user": os.getuid(),
            "variable": os.environ.get("MODEL"),
            "volume": sorted(os.listdir("/runpod-volume")),
            "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
            "arguments": sys.argv[1:],
            "host": socket.gethostbyname("host.docker.internal"),
            "secrets": [name for name in os.environ if name.startswith("EMULATOR_")],
        }
    if do == "exit":
        os._exit(job["input"]["code"])
    if do == "memory":
        return len(bytearray(1 << 30))
    if do == "print":
        line = "x" * 1023
        for _ in range(1 << 20):
            print(line)
    if do == "nap":
        time.sleep(0.3)
    if do == "sleep":
        time.sleep(3600)
    print("did", do)
    return job["input"].get("number", do)

async def several(job):
    return await asyncio.to_thread(handler, job)

if "AT_A_TIME" in os.environ:
    modifier = lambda now: int(os.environ["AT_A_TIME"])
    runpod.serverless.start({"handler": several, "concurrency_modifier": modifier})
runpod.serverless.start({"handler": handler})
"""


@pytest.fixture(scope="session")
def engine():
    """The engine's own client, to look at it from the other side."""
    with_engine = docker.from_env()
    yield with_engine
    with_engine.close()


@contextmanager
def none_left(engine, *labels):
    """Lists the containers of workers with any of the labels; none may be left at the end."""

    def listed():
        return [
            container
            for label in labels
            for container in engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        ]

    yield listed
    remaining = listed()
    for container in remaining:
        container.remove(force=True)
    assert not remaining


@pytest.fixture
def left(engine):
    """The containers of emulators in this process."""
    with none_left(engine, f"{EMULATOR}={this_emulator()}") as listed:
        yield listed


@pytest.fixture
def left_by_commands(engine):
    """The containers of emulators that are commands."""
    with none_left(engine, f"{ENDPOINT}=local", f"{ENDPOINT}=pictures") as listed:
        yield listed


@pytest.fixture
def serving(tmp_path, left):
    """Serves an endpoint of an image, which runs WORKER_SCRIPT unless another command is given."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER_SCRIPT)
    tmp_path.chmod(0o755)

    @contextmanager
    def serve(*, rate=1, container=None, volumes=(), image=WORKER_IMAGE, **settings):
        settings.setdefault("command", ("python", "-u", "/app/worker.py"))
        made = ContainerSettings(volumes=(f"{tmp_path}:/app:ro", *volumes), **(container or {}))
        config = EndpointConfig(image=image, container=made, **settings)
        emulator = Emulator({"ep": config}, rate_limits=False, clock=Clock(rate=rate))
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(emulator),
            portal.wrap_async_context_manager(emulator.serve()) as url,
            httpx.Client(base_url=url, headers=KEY, trust_env=False, timeout=PATIENCE_S) as http,
        ):
            endpoint = Endpoint(http, emulator)
            endpoint.call = portal.call
            yield endpoint

    return serve
