"""`--worker-kind ray` where no Ray is: what is refused, and how settings say what workers take of a node.

With Ray: tests/ray.
"""

import asyncio
import os

import pytest

from emulator import Emulator, EndpointConfig
from emulator.core.config import WorkerKind
from emulator.core.placement import Placement
from emulator.errors import ConfigError
from emulator.settings import endpoints_of
from tests.cli.command import run

ON_RAY = EndpointConfig(worker_kind="ray")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--ray-address", "127.0.0.1:9"],
            "the Ray cluster at 127.0.0.1:9 cannot be used (is it up, is this",
        ),
        (["--ray-address", "ray://127.0.0.1:9"], "Ray of the same version here and there?): nobody answers"),
        (["--num-cpus", "-1"], "--num-cpus is -1: it must be from 0"),
        (["--num-gpus", "1.5"], "--num-gpus is 1.5: above 1 it must be a whole number"),
        (["--resource", "license"], "--resource is 'license': it must be NAME=AMOUNT"),
        (["--resource", "GPU=1"], "resources: GPU is no custom resource: say it by num_gpus"),
        (["--python", "python3"], "python is of processes on this machine: on a cluster workers run with"),
        (["--worker-kind", "process", "--num-cpus", "2"], "what was said of a cluster is of no use"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(tmp_path, arguments, sentence):
    (tmp_path / "handler.py").write_text("def handler(job):\n    return job['input']\n")
    options = ["--port", "0", "--worker-kind", "ray", *arguments]
    done = run(tmp_path, "serve", "handler.py:handler", *options)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())


def test_where_ray_is_not_installed_the_extra_is_named(tmp_path):
    (tmp_path / "handler.py").write_text("def handler(job):\n    return job['input']\n")
    (without := tmp_path / "without" / "ray").mkdir(parents=True)
    (without / "__init__.py").write_text("raise ImportError('there is none')\n")
    paths = os.pathsep.join((str(without.parent), os.environ.get("PYTHONPATH", "")))
    options = ["--port", "0", "--worker-kind", "ray"]
    done = run(tmp_path, "serve", "handler.py:handler", *options, PYTHONPATH=paths)
    assert done.returncode == 2
    assert "needs the extra ray: python -m pip install 'runpod-emulator[ray]'" in done.stderr


def test_a_table_says_what_workers_take():
    tables = {
        "big": {"handler": "handler.py", "num-gpus": 2, "resources": {"license": 1}},
        "small": {"handler": "handler.py", "num-cpus": 0.5},
        "here": {"handler": "handler.py", "worker-kind": "process"},
    }
    configs = endpoints_of(None, (), ON_RAY, tables)
    assert configs["big"].placement == Placement(num_gpus=2, resources={"license": 1})
    assert str(configs["big"].placement) == "1 CPU, 2 GPU, 1 license"
    assert configs["small"].placement == Placement(num_cpus=0.5)
    assert configs["here"].worker_kind is WorkerKind.PROCESS


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"num-gpus": 1, "worker-kind": "process"}, r"\[endpoints.a\] num-gpus is of workers on a cluster"),
        ({"resources": ["license"]}, "it must be a table of amounts"),
        ({"num-cpus": "many"}, "num-cpus is 'many'"),
    ],
)
def test_a_table_that_says_nonsense_is_refused(table, sentence):
    with pytest.raises(ConfigError, match=sentence):
        endpoints_of(None, (), ON_RAY, {"a": {"handler": "handler.py", **table}})


def test_what_workers_take_outlives_the_emulator():
    given = EndpointConfig(placement=Placement(num_gpus=1, resources={"license": 2}))

    async def carried():
        async with Emulator() as before:
            await before.create_endpoint("kept", given)
            state = before.save_state()
        async with Emulator() as after:
            await after.load_state(state)
            return after.endpoint("kept").config.placement

    assert asyncio.run(carried()) == given.placement
