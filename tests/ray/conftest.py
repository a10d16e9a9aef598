"""Ray clusters of this machine, and emulators whose workers are there; `make test-ray` installs Ray."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager

import httpx
import psutil
import pytest
from anyio.from_thread import start_blocking_portal

from emulator import Clock, Emulator, EndpointConfig
from emulator.core.placement import Placement
from tests.engine.patience import until
from tests.limits import PATIENCE_S
from tests.workers.endpoint import Endpoint
from tests.workers.kinds import KEY

#: What the workers of these tests run: what a job's input says.
HANDLER = """\
import os, signal, subprocess, sys, time
from pathlib import Path

import beside

def handler(job):
    do = job["input"]["do"]
    if do == "look":
        return {
            "files": sorted(str(path) for path in Path().rglob("*") if path.is_file()),
            "arguments": sys.argv[1:],
            "variable": os.environ.get("MODEL"),
            "secrets": [name for name in os.environ if name.startswith("EMULATOR_")],
            "rays": [
                each for each in os.environ["PYTHONPATH"].split(":")
                if "runtime_resources" in each and not each.endswith("on_path")
            ],
            "key_is_mine": os.environ["RUNPOD_AI_API_KEY"] == "x",
            "url": os.environ["RUNPOD_WEBHOOK_GET_JOB"].partition("/v2")[0],
        }
    if do == "exit":
        os._exit(job["input"]["code"])
    if do == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if do == "child":
        return subprocess.Popen(["sleep", "3600"], start_new_session=True, env={"OWN": "yes"}).pid
    if do == "print":
        for _ in range(20_000):
            print("x" * 1023)
    if do == "nap":
        time.sleep(0.2)
    if do == "sleep":
        time.sleep(3600)
    if do == "version":
        return beside.VERSION
    print("did", do)
    return job["input"].get("number", do)
"""
#: Of each node: as little as Ray takes.
NODE = {"object_store_memory": 80_000_000}
# No reports, and all of it on loopback. The server for Ray's client forks beside threads of gRPC, which ends
# what it starts now and then.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
}


@contextmanager
def cluster_of(*cpus, **head):
    """A cluster of a node for each number of CPUs, the first of them the head; and none of it at the end."""
    from ray.cluster_utils import Cluster

    # Nodes of one machine would take away each other's copies of what is sent to them. Paths of sockets are
    # short.
    folders = [tempfile.mkdtemp(prefix="ray-") for _ in cpus]
    started = Cluster(
        initialize_head=True,
        head_node_args={
            **NODE,
            "num_cpus": cpus[0],
            "include_dashboard": False,
            "temp_dir": folders[0],
            **head,
        },
    )
    try:
        for number, folder in zip(cpus[1:], folders[1:], strict=True):
            started.add_node(**NODE, num_cpus=number, temp_dir=folder)
        yield started
    finally:
        started.shutdown()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster():
    """One node, with a resource of its own."""
    with cluster_of(4, resources={"scratch": 2}) as started:
        yield started


def processes(*words):
    """The processes whose command line has one of these words."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if any(word in line for word in words) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def actors():
    """The processes of Ray that are workers' actors."""
    return processes("ray::NodeWorker")


def handlers():
    """The processes in which handlers run, by what was sent to their node."""
    return processes("emulator/workers/runner.py handler.py")


def left_on_nodes():
    """All that runs by what was sent to a node."""
    return [*actors(), *processes("runtime_resources/py_modules_files")]


def living_actors(cluster):
    """What a cluster knows of actors that are there, or are to be."""
    return [each for each in cluster.global_state.actor_table(None).values() if each["State"] != "DEAD"]


@pytest.fixture
def serving(tmp_path, request):
    """Serves an endpoint on a cluster, which runs HANDLER unless something else is given."""
    (tmp_path / "handler.py").write_text(HANDLER)
    (tmp_path / "beside.py").write_text("VERSION = 1\n")

    @contextmanager
    def serve(*, on=None, rate=1, handler="handler.py:handler", ray_address=None, placement=None, **settings):
        on = on or request.getfixturevalue("cluster")
        config = EndpointConfig(
            handler=handler,
            worker_kind="ray",
            placement=Placement(**(placement or {})),
            **{"workdir": tmp_path, **settings},
        )
        emulator = Emulator(
            {"ep": config},
            rate_limits=False,
            api_keys=["x"],
            clock=Clock(rate=rate),
            ray_address=ray_address or on.address,
        )
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(emulator),
            portal.wrap_async_context_manager(emulator.serve()) as url,
            httpx.Client(base_url=url, headers=KEY, trust_env=False, timeout=PATIENCE_S) as http,
        ):
            endpoint = Endpoint(http, emulator)
            endpoint.call = portal.call
            yield endpoint
        until(lambda: not living_actors(on))
        until(lambda: not left_on_nodes())

    return serve
