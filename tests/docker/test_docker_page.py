"""What docs/docker.md tells to write and to type agrees with the image, the compose file and the emulator."""

import json
import re
import shlex
from itertools import pairwise

import pytest
import yaml

from tests.docker.dockerfile import PROJECT
from tests.docker.image import COMPOSE, IMAGE, VARIABLES

PAGE = (PROJECT / "docs/docker.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def shell_commands():
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line and line[0] != "#"]


def options(command, *names):
    return [value for name, value in pairwise(command) if name in names]


def test_every_variable_it_names_sets_something():
    named = set(re.findall(r"\bEMULATOR_[A-Z_]+\b", PAGE))
    assert named
    assert named <= VARIABLES


def test_containers_are_published_to_this_machine_only():
    runs = [command for command in shell_commands() if command[:2] == ["docker", "run"]]
    assert len(runs) == 3
    for command in runs:
        assert options(command, "-p") == [f"127.0.0.1:8000:{IMAGE.only('EXPOSE')}"]


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


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "runs-on" in block])
def test_workflows_point_the_sdks_at_the_published_port(block):
    job = yaml.safe_load(block)["jobs"]["test"]
    assert job["env"]["RUNPOD_ENDPOINT_BASE_URL"] == "http://127.0.0.1:8000/v2"
    service = job.get("services", {}).get("emulator")
    ports = (service or COMPOSE["services"]["emulator"])["ports"]
    assert ports == ["127.0.0.1:8000:8000"]


def test_images_made_from_it_copy_what_is_in_it():
    copied = {target.split()[-1] for target in IMAGE.arguments("COPY")}
    asked_for = set(re.findall(r"COPY --from=runpod-emulator (\S+)", PAGE))
    assert asked_for
    assert asked_for <= copied
