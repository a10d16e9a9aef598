"""The images, built without a network and without an engine.

The Dockerfiles' commands run in folders. The emulator's dependencies and the SDK are not downloaded for that:
they are those of this environment.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.docker.dockerfile import PROJECT, Root
from tests.docker.image import SDK, SLIM, STAGES, WORKER, BuiltImage

_PURELIB = Path(sysconfig.get_path("purelib"))


@pytest.fixture(scope="session")
def dependencies(tmp_path_factory):
    """This environment's packages, without the SDK, the emulator and what installs packages."""
    folder = tmp_path_factory.mktemp("dependencies")
    for path in _PURELIB.iterdir():
        if path.suffix != ".pth" and not path.name.startswith(("pip", "runpod")):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """What pip finds the SDK in: a wheel that points to the SDK of this environment."""
    place, folder = tmp_path_factory.mktemp("sdk"), tmp_path_factory.mktemp("wheels")
    (place / "runpod").symlink_to(_PURELIB / "runpod")
    name = f"runpod-{version('runpod')}"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("runpod.pth", str(place))
        metadata = f"Metadata-Version: 2.1\nName: runpod\nVersion: {version('runpod')}\n"
        wheel.writestr(f"{name}.dist-info/METADATA", metadata)
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    return folder


def build(stage, folder, dependencies, wheels):
    """The image of a stage: the venv comes from another one, whose commands are run here."""
    root = Root(folder)
    (folder / "app").mkdir()
    builder = STAGES[stage.copied()["/opt/venv"]]
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    root.run_steps(STAGES["builder"].steps, PROJECT, PIP_NO_DEPS="1", **offline)
    (packages,) = (folder / "opt/venv/lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(str(dependencies))
    if builder is not STAGES["builder"]:
        assert builder.parent is STAGES["builder"]
        root.run_steps(builder.own_steps, PROJECT, PIP_FIND_LINKS=str(wheels), **offline)
    return BuiltImage(stage, root)


@pytest.fixture(scope="session")
def slim(tmp_path_factory, dependencies, wheels):
    return build(SLIM, tmp_path_factory.mktemp("slim"), dependencies, wheels)


@pytest.fixture(scope="session")
def sdk(tmp_path_factory, dependencies, wheels):
    return build(SDK, tmp_path_factory.mktemp("image"), dependencies, wheels)


@pytest.fixture(params=["slim", "sdk"])
def image(request):
    """Each of the two images."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def worker(tmp_path_factory):
    """The example's image; pip must find what it asks for in this environment."""
    root = Root(tmp_path_factory.mktemp("worker"))
    root.run_steps(WORKER.steps, PROJECT / "examples/worker", but="useradd", PIP_NO_INDEX="1")
    return BuiltImage(WORKER, root, base_path=f"{Path(sys.executable).parent}:{os.defpath}")


@pytest.fixture
def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])
