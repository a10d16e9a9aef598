"""What docs/ci.md tells to write agrees with the action, the image, the settings and the code."""

import ast
import re
import textwrap

import pytest
import yaml

from emulator.testcontainers import MANAGED_LABEL, RunpodEmulatorContainer
from tests.docker.compose import COMPOSE
from tests.docker.dockerfile import PROJECT
from tests.docker.image import SDK, VARIABLES

PAGE = (PROJECT / "docs/ci.md").read_text()
ACTION = yaml.safe_load((PROJECT / "action.yml").read_text())


def blocks(language):
    found = re.findall(rf"^ *```{language}\n.*?^ *```", PAGE, re.DOTALL | re.MULTILINE)
    return ["\n".join(textwrap.dedent(block).splitlines()[1:-1]) for block in found]


SNIPPETS = [yaml.safe_load(block) for block in blocks("yaml")]
JOBS = [snippet["jobs"]["test"] for snippet in SNIPPETS if "jobs" in snippet]
STEPS = [step for part in [*SNIPPETS, *JOBS] for step in part.get("steps", ())]


def rows(first_header):
    """The names in the first column of a table."""
    table = re.search(rf"^\| {first_header} \|.*?\n\n", PAGE, re.DOTALL | re.MULTILINE)[0]
    cells = [row.split("|")[1] for row in table.strip().splitlines()[2:]]
    return [name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)]


def test_workflows_are_jobs_with_steps():
    assert len(JOBS) == 3
    for job in JOBS:
        assert job["runs-on"] == "ubuntu-latest"
    for step in STEPS:
        assert ("run" in step) != ("uses" in step)


def test_what_is_given_to_the_action_are_its_inputs():
    uses = [step for step in STEPS if step.get("uses", "").startswith("OWNER/runpod-emulator@v")]
    assert len(uses) == 2
    for step in uses:
        assert step["with"].keys() <= ACTION["inputs"].keys()
        assert all(isinstance(value, str) for value in step["with"].values())
        assert step["id"] == "emulator"


def test_outputs_that_are_used_are_the_actions():
    used = set(re.findall(r"steps\.emulator\.outputs\.([\w-]+)", PAGE))
    assert used
    assert used <= ACTION["outputs"].keys()


def test_the_tables_list_all_inputs_and_outputs():
    assert rows("input") == list(ACTION["inputs"])
    assert rows("output") == list(ACTION["outputs"])


@pytest.mark.parametrize("name", [name for name, spec in ACTION["inputs"].items() if spec["default"]])
def test_defaults_are_told(name):
    row = re.search(rf"^\| `{name}` \| (\S+) \|", PAGE, re.MULTILINE)
    assert row[1] == ACTION["inputs"][name]["default"]


def test_the_service_container_is_made_by_its_variables_alone():
    (service,) = [job["services"]["emulator"] for job in JOBS if "services" in job]
    assert service.keys() <= {"image", "ports", "env", "options"}
    assert service["env"].keys() <= VARIABLES
    assert (
        service["ports"]
        == [f"127.0.0.1:8000:{SDK.only('EXPOSE')}"]
        == COMPOSE["services"]["emulator"]["ports"]
    )
    assert f'--health-cmd "{" ".join(SDK.command("HEALTHCHECK"))}"' in service["options"]


def test_variables_it_names_set_something():
    assert set(re.findall(r"\bEMULATOR_[A-Z_]+\b", PAGE)) <= VARIABLES


def test_jobs_that_set_the_address_themselves_set_the_published_one():
    addresses = [job["env"]["RUNPOD_ENDPOINT_BASE_URL"] for job in JOBS if "env" in job]
    assert set(addresses) == {"http://127.0.0.1:8000/v2"}


def test_the_container_class_has_what_is_named():
    (block,) = blocks("python")
    called = {node.attr for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Attribute)}
    named = set(re.findall(r"`((?:get|with|emulator)_\w+)(?:\(|`)", PAGE))
    assert {"with_handler", "client"} <= called
    assert "get_base_url" in named
    for name in (called & {"with_handler", "with_clock", "client"}) | named:
        assert callable(getattr(RunpodEmulatorContainer, name))
    assert f"`{MANAGED_LABEL}=true`" in PAGE


def test_files_it_links_to_are_there():
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (PROJECT / "docs" / target).exists(), target
    for path in re.findall(r"`((?:tests|examples)/[^`]+)`", PAGE):
        assert (PROJECT / path).exists(), path
