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
from pathlib import Path

import anyio
import pytest
import typer.main
import yaml

from emulator.cli import cli
from tests.docker.dockerfile import PROJECT, Root, is_sent, read_dockerfile

pytestmark = pytest.mark.anyio

BUILDER, IMAGE = read_dockerfile(PROJECT / "Dockerfile")
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
VARIABLES = {
    parameter.envvar for parameter in typer.main.get_command(cli).commands["serve"].params if parameter.envvar
}
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
    environment |= {"EMULATOR_PORT": free_port}
    serve = [*IMAGE.command("ENTRYPOINT"), *IMAGE.command("CMD")]
    before = files_of(root)
    output = []
    with anyio.fail_after(PATIENCE_S):
        async with await anyio.open_process(
            in_image(serve, environment),
            cwd=root.folder / "app",
            env=environment
            | {"EMULATOR_HOST": "127.0.0.1", "EMULATOR_HANDLER": str(PROJECT / "handlers/echo.py")},
            stderr=subprocess.STDOUT,
        ) as process:
            async for line in lines_of(process.stdout):
                output.append(line)
                if line == "Ready.":
                    break
            assert output[-1:] == ["Ready."], output
            assert (await health(environment)).returncode == 0
            process.send_signal(signal.Signals[IMAGE.only("STOPSIGNAL")])
            assert await process.wait() == 0
        assert any("handlers/echo.py" in line for line in output)
        unhealthy = await health(environment)
    assert unhealthy.returncode == 1
    assert free_port in unhealthy.stderr.decode()
    assert files_of(root) == before, "it must work on a read-only file system"


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


async def lines_of(stream):
    """The lines of a process's output, as they come."""
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode()


def files_of(root):
    return sorted(path for path in root.folder.rglob("*"))


def test_the_image_has_the_wheel_and_not_the_source_tree(root):
    found = subprocess.run(
        [root.folder / "opt/venv/bin/python", "-c", "import emulator; print(emulator.__file__)"],
        cwd=root.folder / "app", capture_output=True, text=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(root.folder / "opt/venv")


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
    assert IMAGE.arguments("COPY") == ["--from=builder /opt/venv /opt/venv"]
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
