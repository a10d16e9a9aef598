"""Images that are in a registry, and not here yet."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

import pytest

from tests.cli.command import run, serving
from tests.engine.patience import until
from tests.engine.registry import registry_in
from tests.engine.test_commands import engine_of
from tests.workers.kinds import WORKER_IMAGE

_MIB = 1024 * 1024
#: Of the layer that only the registry has.
_SIZE_MIB = 32
#: For a registry that wants a login: that its password is "secret" nobody needs to know.
_USERS = "tests:$2b$04$AU1x5pXO2C9oVyNHT3FBcONuIQEvwiMXBEwqdkQh4/pJza9p13Hh6\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with registry_in(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def pushed(engine, registry, tmp_path):
    """Has an image of a worker in the registry and not here, with a layer of its own; returns its name."""

    def push(name, size_mib=1):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        (folder / "weights.bin").write_bytes(os.urandom(size_mib * _MIB))
        (folder / "Dockerfile").write_text(f"FROM {WORKER_IMAGE}\nCOPY weights.bin /\n")
        whole = f"{registry.address}/{name}"
        engine.images.build(path=str(folder), tag=whole)
        for line in engine.images.push(whole).splitlines():
            assert "error" not in json.loads(line), line
        engine.images.remove(whole)
        return whole

    yield push
    for image in engine.images.list():
        # Those that have lost their name to a newer one, too.
        if any(name.startswith(registry.address) for name in image.attrs["RepoDigests"] or ()):
            engine.images.remove(image.id, force=True)


def test_an_image_that_is_not_here_is_pulled_and_its_progress_told(
    tmp_path, registry, pushed, left_by_commands
):
    name = pushed("worker:1", _SIZE_MIB)
    # The engine gets it slowly, until somebody has been told how far it is.
    told = re.compile(rf"pulling {name}: (\d+) of {_SIZE_MIB} MiB in 1 layer\n")
    log = tmp_path / "stderr.txt"
    registry.may_hurry = lambda: log.exists() and told.search(log.read_text()) is not None
    with serving(tmp_path, "--image", name, **engine_of()) as served:
        body = served.post("/v2/local/runsync?wait=300000", {"input": {"name": "Ada"}})
        assert (body["status"], body["output"]) == ("COMPLETED", {"greeting": "Hello, Ada!"})
        assert f"image {name} is not here: pulling it" in served.log
        assert f"pulled {name}: {_SIZE_MIB} of {_SIZE_MIB} MiB in 1 layer\n" in served.log
        how_far = [int(each) for each in told.findall(served.log)]
    assert how_far == sorted(how_far)
    assert 0 < how_far[0] < _SIZE_MIB


@pytest.mark.parametrize("command", ["invoke", "test"])
def test_commands_that_run_one_job_pull_too_and_say_so(tmp_path, pushed, left_by_commands, command):
    (tmp_path / "tests.json").write_text('[{"input": {"name": "Ada"}}]')
    name = pushed("worker:one-job")
    more = ["--input", '{"name": "Ada"}'] if command == "invoke" else []
    done = run(tmp_path, command, "--image", name, *more, **engine_of())
    assert done.returncode == 0, done.stderr
    assert f"image {name} is not here: pulling it" in done.stderr
    assert f"pulled {name}: 1 of 1 MiB in 1 layer" in done.stderr


def test_a_name_that_the_registry_does_not_know_is_refused(tmp_path, registry):
    name = f"{registry.address}/worker:nonsense"
    done = run(tmp_path, "serve", "--port", "0", "--image", name, **engine_of())
    assert done.returncode == 2
    assert f"there is no image '{name}', and it could not be pulled: build it" in done.stderr
    assert "manifest unknown" in done.stderr


def test_a_registry_that_wants_a_login_is_left_to_docker_pull(tmp_path, tmp_path_factory):
    with registry_in(tmp_path_factory.mktemp("private"), users=_USERS) as private:
        name = f"{private.address}/worker:1"
        done = run(tmp_path, "serve", "--port", "0", "--image", name, **engine_of())
    assert done.returncode == 2
    assert f"pull it yourself, with your registry's login (docker pull {name})" in done.stderr
    assert "no basic auth credentials" in done.stderr


def test_a_newer_image_of_the_same_name_is_taken_up_once_it_is_pulled(
    tmp_path, engine, registry, pushed, left_by_commands
):
    name = pushed("worker:latest")
    pushed("worker:newer")
    with serving(tmp_path, "--image", name, "--reload", "--workers-min", "1", **engine_of()) as served:
        until(left_by_commands)
        older = engine.images.get(name).id
        registry.tag("worker:newer", "worker:latest")
        newer = engine.images.pull(name).id
        assert newer != older
        until(lambda: [each.attrs["Image"] for each in left_by_commands()] == [newer])
        body = served.post("/v2/local/runsync?wait=300000", {"input": {"name": "Ada"}})
        assert body["output"] == {"greeting": "Hello, Ada!"}
