"""The image and the compose file, as far as they can be tried without a container engine.

The Dockerfile's builder is run step by step in a folder, and the image's ENTRYPOINT, HEALTHCHECK and
STOPSIGNAL with its ENV on what that has built.
"""

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.docker.dockerfile import PROJECT, Root, is_sent
from tests.docker.image import BUILDER, COMPOSE, IMAGE, VARIABLES

pytestmark = pytest.mark.anyio

#: Real seconds within which a process has done what is waited for, or the test has failed.
PATIENCE_S = 30


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """What the builder makes, but for the dependencies: those are this environment's."""
    root = Root(tmp_path_factory.mktemp("image"))
    (root.folder / "app").mkdir()
    root.run_steps(BUILDER, PIP_NO_INDEX="1", PIP_NO_DEPS="1", PIP_NO_BUILD_ISOLATION="0")
    (packages,) = (root.folder / "opt/venv/lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return root


@pytest.fixture
def environment(root):
    """The image's ENV, and nothing else."""
    environment = IMAGE.pairs("ENV")
    environment["PATH"] = root.place(environment["PATH"]).replace("$PATH", os.defpath)
    return environment


@pytest.fixture
def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


async def test_the_image_serves_tells_its_health_and_stops(root, environment, free_port):
    environment["EMULATOR_PORT"] = free_port
    before = files_of(root)
    with anyio.fail_after(PATIENCE_S):
        async with serving(root, environment) as process:
            output = await lines_until("Ready.", process.stdout)
            assert any("handlers/echo.py" in line for line in output), output
            assert (await health(environment)).returncode == 0
            process.send_signal(signal.Signals[IMAGE.only("STOPSIGNAL")])
            assert await process.wait() == 0
        unhealthy = await health(environment)
    assert unhealthy.returncode == 1
    assert free_port in unhealthy.stderr.decode()
    assert files_of(root) == before, "it must work on a read-only file system"


@asynccontextmanager
async def serving(root, environment):
    """The image's process, on this machine's own address and with a sample to serve."""
    here = {"EMULATOR_HOST": "127.0.0.1", "EMULATOR_HANDLER": str(PROJECT / "handlers/echo.py")}
    async with await anyio.open_process(
        in_image(IMAGE.command("ENTRYPOINT") + IMAGE.command("CMD"), environment),
        cwd=root.folder / "app",
        env=environment | here,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def health(environment):
    """The image's HEALTHCHECK, with its ENV as it is: the emulator listens on all addresses there."""
    return await anyio.run_process(
        in_image(IMAGE.command("HEALTHCHECK"), environment), env=environment, check=False
    )


def in_image(words, environment):
    """The command with its program looked up in the image's PATH."""
    program = shutil.which(words[0], path=environment["PATH"])
    assert program is not None
    return [program, *words[1:]]


async def lines_until(last, stream):
    """The lines of a process's output up to one; the process may not end before."""
    output = b""
    async for chunk in stream:
        output += chunk
        if f"\n{last}\n".encode() in output:
            break
    lines = output.decode().splitlines()
    assert last in lines, lines
    return lines


def files_of(root):
    return sorted(root.folder.rglob("*"))


async def test_the_image_has_the_wheel_and_not_the_source_tree(root, environment):
    print_place = ["python", "-c", "import emulator; print(emulator.__file__)"]
    found = await anyio.run_process(
        in_image(print_place, environment), cwd=root.folder / "app", env=environment
    )
    package = Path(found.stdout.decode().strip()).parent
    assert package.is_relative_to(root.folder / "opt/venv")
    assert list(package.parent.glob("runpod_emulator-*.dist-info/licenses/LICENSE"))


def test_the_environment_of_the_image_is_the_emulators():
    """So that `serve` and `healthcheck` agree, and settings are given by variables alone."""
    assert {name for name in IMAGE.pairs("ENV") if name.startswith("EMULATOR_")} <= VARIABLES
    assert IMAGE.pairs("ENV")["EMULATOR_HOST"] == "0.0.0.0"
    assert IMAGE.pairs("ENV")["EMULATOR_PORT"] == IMAGE.only("EXPOSE")


def test_the_image_has_no_rights_and_nothing_to_install_with():
    user = IMAGE.only("USER").partition(":")[0]
    assert user.isdigit()
    assert user != "0"
    assert any("pip uninstall" in step for step in IMAGE.arguments("RUN"))
    assert all(copied.startswith("--from=builder ") for copied in IMAGE.arguments("COPY"))
    assert IMAGE.image == BUILDER.image


def test_the_image_says_what_it_is():
    labels = IMAGE.pairs("LABEL")
    assert labels["org.opencontainers.image.version"] == "${VERSION}"
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert "VERSION" in IMAGE.pairs("ARG")


def test_the_build_context_has_only_what_the_wheel_needs():
    sent = {path.name for path in PROJECT.iterdir() if is_sent(path.name)}
    assert sent == {"emulator", "pyproject.toml", "README.md", "LICENSE"}


# The compose file


def test_compose_serves_a_sample_to_this_machine_only():
    service = COMPOSE["services"]["emulator"]
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    source, target, mode = service["volumes"][0].split(":")
    assert mode == "ro"
    handler = service["environment"]["EMULATOR_HANDLER"]
    assert (PROJECT / source / Path(handler).relative_to(target)).is_file()


def test_compose_sets_only_what_the_emulator_knows():
    assert set(COMPOSE["services"]["emulator"]["environment"]) <= VARIABLES


def test_compose_checks_the_health_as_the_image_does():
    check = COMPOSE["services"]["emulator"]["healthcheck"]
    assert check["test"] == ["CMD", *IMAGE.command("HEALTHCHECK")]
    flags = IMAGE.only("HEALTHCHECK").partition(" CMD ")[0].split()
    assert {key.replace("_", "-"): str(value) for key, value in check.items() if key != "test"} == {
        name: value for name, _, value in (flag.removeprefix("--").partition("=") for flag in flags)
    }


def test_compose_lets_it_write_nowhere():
    service = COMPOSE["services"]["emulator"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
