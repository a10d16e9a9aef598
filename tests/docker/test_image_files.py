"""The images, as far as they can be tried without a container engine.

The Dockerfile's commands are run step by step in folders (conftest.py), and the images' ENTRYPOINT,
HEALTHCHECK and STOPSIGNAL with their ENV on what was built.
"""

import re
import signal
from pathlib import Path

import anyio
import httpx
import pytest

from tests.docker.dockerfile import PROJECT, is_sent
from tests.docker.image import SDK, SLIM, STAGES, VARIABLES, WORKER
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio

ENTRYPOINT = SDK.command("ENTRYPOINT")


async def test_an_image_serves_tells_its_health_and_stops(image, free_port):
    before = image.root.files()
    port = {"EMULATOR_PORT": free_port}
    here = {"EMULATOR_HOST": "127.0.0.1", "EMULATOR_HANDLER": str(PROJECT / "handlers/echo.py")}
    healthcheck = image.stage.command("HEALTHCHECK")
    with anyio.fail_after(PATIENCE_S):
        async with image.running(ENTRYPOINT + image.stage.command("CMD"), **port, **here) as process:
            await process.until("\nReady.\n")
            assert (await image.run(healthcheck, **port)).returncode == 0
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
                done = await client.post(
                    f"http://127.0.0.1:{free_port}/runsync",
                    json={"input": "hello"},
                    headers={"authorization": "any"},
                )
            assert done.json()["output"] == "hello"
            number = signal.Signals[image.stage.only("STOPSIGNAL")]
            assert await process.stop(number) == 0
        unhealthy = await image.run(healthcheck, **port)
    if image.stage is SDK:
        interpreter = image.root.place("/opt/venv/bin/python")
        assert f"handlers/echo.py (script, {interpreter})" in process.output
        assert "workers   process, " in process.output
    else:
        assert "workers   inline, " in process.output
    assert unhealthy.returncode == 1
    assert free_port in unhealthy.stderr.decode()
    assert image.root.files() == before, "it must work on a read-only file system"


async def test_only_one_image_has_the_sdk_and_none_has_pip(slim, sdk):
    find = "import sys, importlib.util as util; print([bool(util.find_spec(name)) for name in sys.argv[1:]])"
    asked = ["python", "-c", find, "runpod", "pip", "fastapi"]
    assert (await slim.run(asked)).stdout == b"[False, False, True]\n"
    assert (await sdk.run(asked)).stdout == b"[True, False, True]\n"


async def test_an_image_has_the_wheel_and_not_the_source_tree(image):
    found = await image.run(["python", "-c", "import emulator; print(emulator.__file__)"])
    package = Path(found.stdout.decode().strip()).parent
    assert package.is_relative_to(image.root.folder / "opt/venv")
    assert list(package.parent.glob("runpod_emulator-*.dist-info/licenses/LICENSE"))


async def test_the_wheel_has_the_console_and_the_licences_of_what_is_bundled_in_it(slim):
    found = await slim.run(["python", "-c", "import emulator; print(emulator.__file__)"])
    there = Path(found.stdout.decode().strip()).parent / "console"
    here = PROJECT / "emulator/console"
    files = {path.relative_to(here) for path in here.rglob("*") if path.is_file()}
    assert {Path("index.html"), Path("vendor/editor.js"), Path("vendor/charts.js")} < files
    assert {path.relative_to(there) for path in there.rglob("*") if path.is_file()} == files
    licences = (there / "vendor/LICENSES.txt").read_text()
    for package in ("@codemirror/view", "@lezer/json", "crelt", "style-mod", "uplot", "w3c-keyname"):
        assert re.search(rf"^{package} \d[\d.]* \(MIT\)\n\n.*\n", licences, re.MULTILINE), package
    assert licences.count("Permission is hereby granted") == len(
        re.findall(r"(?m)^\S+ [\d.]+ \(MIT\)$", licences)
    )


def test_the_image_with_the_sdk_is_built_when_nothing_is_said():
    assert list(STAGES)[-1] == "sdk"


@pytest.mark.parametrize("stage", [SLIM, SDK], ids=["slim", "sdk"])
class TestEachImage:
    def test_its_environment_is_the_emulators(self, stage):
        """So that `serve` and `healthcheck` agree, and settings are given by variables alone."""
        assert {name for name in stage.pairs("ENV") if name.startswith("EMULATOR_")} <= VARIABLES
        assert stage.pairs("ENV")["EMULATOR_HOST"] == "0.0.0.0"
        assert stage.pairs("ENV")["EMULATOR_PORT"] == stage.only("EXPOSE")

    def test_it_has_no_rights_and_nothing_to_install_with(self, stage):
        assert is_unprivileged(stage.only("USER"))
        assert any("pip uninstall" in step for step in stage.arguments("RUN"))
        assert set(stage.copied()) == {"/opt/venv", "/dist"}
        assert len(stage.arguments("COPY")) == 2

    def test_its_venv_is_made_by_the_python_it_has(self, stage):
        builder = STAGES[stage.copied()["/opt/venv"]]
        assert builder.base_image == stage.base_image

    def test_it_says_what_it_is(self, stage):
        labels = stage.pairs("LABEL")
        assert labels["org.opencontainers.image.version"] == "${VERSION}"
        assert labels["org.opencontainers.image.licenses"] == "MIT"
        assert "VERSION" in stage.pairs("ARG")


def test_the_example_worker_has_no_rights():
    assert is_unprivileged(WORKER.only("USER"))


def is_unprivileged(user):
    """A number, which needs no look-up, and not root's."""
    number = user.partition(":")[0]
    return number.isdigit() and number != "0"


def test_the_build_context_has_only_what_the_wheel_needs():
    sent = {path.name for path in PROJECT.iterdir() if is_sent(PROJECT, path.name)}
    assert sent == {"emulator", "pyproject.toml", "README.md", "LICENSE"}
