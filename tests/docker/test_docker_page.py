"""What docs/docker.md tells to write and to type agrees with the images, the compose files, the emulator."""

import json
import re
import shlex
import textwrap
from itertools import pairwise

import pytest
import yaml

from tests.docker.compose import COMPOSE, EXTERNAL, FILES, variables
from tests.docker.dockerfile import PROJECT
from tests.docker.image import SDK, SLIM, STAGES, VARIABLES

PAGE = (PROJECT / "docs/docker.md").read_text()
WORKER_ENV = "EMULATOR_WORKER_ENV_NAME"


def blocks(language):
    found = re.findall(rf"^ *```{language}\n.*?^ *```", PAGE, re.DOTALL | re.MULTILINE)
    return ["\n".join(textwrap.dedent(block).splitlines()[1:-1]) for block in found]


def shell_commands():
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line and line[0] != "#"]


def options(command, *names):
    return [value for name, value in pairwise(command) if name in names]


def test_every_variable_it_names_sets_something():
    named = set(re.findall(r"\bEMULATOR_[A-Z_]+\b", PAGE))
    assert WORKER_ENV in named
    assert named - {WORKER_ENV} <= VARIABLES


def test_containers_are_published_to_this_machine_only():
    runs = [command for command in shell_commands() if command[:2] == ["docker", "run"]]
    emulators = [command for command in runs if command[-1].startswith("runpod-emulator")]
    assert len(emulators) == 3
    for command in emulators:
        assert options(command, "-p") == [f"127.0.0.1:8000:{SDK.only('EXPOSE')}"]
    assert all("--init" in command for command in runs)


def test_images_it_builds_are_the_ones_it_and_the_compose_files_name():
    builds = [command for command in shell_commands() if command[:2] == ["docker", "build"]]
    built = {options(command, "-t")[0]: options(command, "--target") for command in builds}
    assert built == {"runpod-emulator": [], "runpod-emulator:slim": ["slim"]}
    assert list(STAGES)[-1] == "sdk"
    services = [file["services"]["emulator"] for file in FILES.values()]
    assert [(service["image"], service["build"]["target"]) for service in services] == [
        ("runpod-emulator", "sdk"),
        ("runpod-emulator:slim", "slim"),
    ]


def test_handlers_it_mounts_are_there():
    (command,) = [command for command in shell_commands() if "-v" in command]
    (volume,) = options(command, "-v")
    source, target, _ = volume.split(":")
    (variable,) = options(command, "-e")
    handler = variable.removeprefix(f"EMULATOR_HANDLER={target}/")
    assert (PROJECT / source.removeprefix("$PWD/") / handler).is_file()


def test_requests_it_shows_are_json():
    bodies = [body for command in shell_commands() if command[0] == "curl" for body in options(command, "-d")]
    assert bodies
    assert all("input" in json.loads(body) for body in bodies)


def test_tests_in_compose_wait_for_the_emulator_by_the_name_it_has_there():
    (addition,) = [yaml.safe_load(block) for block in blocks("yaml") if "depends_on" in block]
    tests = addition["services"]["tests"]
    (dependency,) = tests["depends_on"]
    assert dependency in COMPOSE["services"]
    assert tests["depends_on"][dependency] == {"condition": "service_healthy"}
    assert tests["environment"]["RUNPOD_ENDPOINT_BASE_URL"] == f"http://{dependency}:8000/v2"


def test_what_it_scales_is_there():
    (command,) = [command for command in shell_commands() if "--scale" in command]
    (name,), (scale,) = options(command, "-f"), options(command, "--scale")
    assert scale.partition("=")[0] in FILES[name]["services"]


def test_a_worker_by_hand_has_the_variables_of_the_compose_file():
    (block,) = blocks("properties")
    by_hand = dict(line.split("=", 1) for line in block.replace("host.docker.internal", "emulator").split())
    assert by_hand.pop("RUNPOD_POD_ID")
    assert by_hand == variables(EXTERNAL["services"]["worker"])


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "runs-on" in block])
def test_workflows_point_the_sdks_at_the_published_port(block):
    job = yaml.safe_load(block)["jobs"]["test"]
    assert job["env"]["RUNPOD_ENDPOINT_BASE_URL"] == "http://127.0.0.1:8000/v2"
    service = job.get("services", {}).get("emulator")
    ports = (service or COMPOSE["services"]["emulator"])["ports"]
    assert ports == ["127.0.0.1:8000:8000"]


def test_images_made_from_it_copy_what_is_in_it():
    asked_for = set(re.findall(r"COPY --from=runpod-emulator (\S+)", PAGE))
    assert asked_for
    assert asked_for <= set(SDK.copied())


def test_an_interpreter_that_it_adds_fits_the_python_of_the_image():
    (block,) = [block for block in blocks("dockerfile") if "EMULATOR_PYTHON" in block]
    assert f"FROM {SLIM.base_image} AS packages" in block
