"""`--image` where no engine is to be had: what is refused, and how settings name images and handlers.

With an engine: tests/engine.
"""

import os
import socket
import subprocess
import sys

import pytest

from emulator.core.config import EndpointConfig, WorkerKind
from emulator.core.container import ContainerSettings
from emulator.errors import ConfigError
from emulator.settings import endpoints_of
from tests.cli.command import environment, run
from tests.limits import PATIENCE_S

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


@pytest.mark.parametrize("command", ["serve", "invoke", "test"])
def test_an_engine_that_is_not_there_is_told_in_a_sentence(tmp_path, command):
    (tmp_path / "tests.json").write_text('[{"input": 1}]')
    more = {"serve": ["--port", "0"], "invoke": ["--input", "1"], "test": []}[command]
    done = run(tmp_path, command, "--image", "my-worker", *more, **NO_ENGINE)
    assert done.returncode == 2
    assert "no Docker engine answers at /nowhere/docker.sock: start Docker, or name another" in done.stderr


def test_prune_says_so_too(tmp_path):
    done = run(tmp_path, "workers", "prune", **NO_ENGINE)
    assert done.returncode == 1
    assert "no Docker engine answers" in done.stderr


@pytest.mark.parametrize("command", [["serve", "--port", "0", "--image", "x"], ["workers", "prune"]])
def test_a_socket_one_has_no_rights_on_is_told_with_what_to_do(tmp_path, command):
    # As an engine's, which its group alone may use. Root may use any, unless it is denied that.
    denied = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        done = subprocess.run(
            [*denied, sys.executable, "-m", "emulator", *command],
            env=environment(DOCKER_HOST=f"unix://{path}"),
            cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert done.returncode == (2 if command[0] == "serve" else 1)
    assert f"no rights on the Docker engine's socket {path}: join the group it belongs to" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--image", "two words"], "--image is 'two words': it must be a name"),
        (
            ["--image", "x", "--worker-kind", "external"],
            "an image runs in containers, by worker_kind 'docker'",
        ),
        (["--worker-kind", "docker"], "there is no image"),
        (["--memory", "1g"], "there is no image (--image)"),
        (["--image", "x", "--memory", "1k"], "a container needs 6m at least"),
        (["--image", "x", "--volume", "models:data"], "'data' must be a path in the container"),
        (["--image", "x", "--network", "none"], "--network is 'none': such containers cannot reach"),
        (["--image", "x", "--platform", "Apple"], "--platform is 'Apple': it must be like linux/amd64"),
        (["--image", "x", "--python", "python3"], "python is of processes on this machine"),
        (["--image", "x", "handler.py"], "there is a handler (handler.py) and an image (x)"),
        (["--image", "x", "--", "--tiny"], "arguments follow a command"),
    ],
)
def test_what_goes_with_no_image_is_refused(tmp_path, arguments, sentence):
    (tmp_path / "handler.py").touch()
    done = run(tmp_path, "serve", "--port", "0", *arguments, **NO_ENGINE)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.replace("--worker-kind", "worker_kind").split())


def test_a_place_of_the_workers_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="memory is 'much': it must be a size such as 512m or 8g"):
        ContainerSettings(memory="much")


def test_tables_mix_images_and_handlers(tmp_path):
    defaults = EndpointConfig(
        image="general", worker_kind=WorkerKind.DOCKER, container=ContainerSettings(memory="1g")
    )
    tables = {
        "own": {"image": "special", "volumes": ["models", "/data:/data:ro"], "gpus": "all"},
        "script": {"handler": "handler.py"},
        "general": {"workers-max": 1},
    }
    configs = endpoints_of(None, ["other=b.py"], defaults, tables, tmp_path)
    own = configs["own"]
    assert (own.image, own.worker_kind, own.container.memory) == ("special", "docker", "1g")
    mounts = [(mount.folder, mount.path, mount.read_only) for mount in own.container.mounts]
    assert mounts == [(f"{tmp_path}/models", "/runpod-volume", False), ("/data", "/data", True)]
    for name, handler in (("script", f"{tmp_path}/handler.py"), ("other", "b.py")):
        config = configs[name]
        assert (config.image, config.worker_kind, config.handler) == (None, "process", handler)
    assert (configs["general"].image, configs["general"].workers_max) == ("general", 1)


def test_a_table_needs_an_image_for_what_is_of_containers():
    with pytest.raises(ConfigError, match=r"\[endpoints.a\] gpus is of containers: name their image"):
        endpoints_of(None, [], EndpointConfig(), {"a": {"gpus": "all"}})
