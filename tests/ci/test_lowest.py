"""What `make test-lowest` installs: the lowest versions that pyproject.toml allows."""

import re
import subprocess

import pytest
from packaging.requirements import Requirement

from tests.docker.dockerfile import PROJECT
from tests.lowest import lowest, requirements


def test_every_requirement_has_a_lowest_version():
    pinned = [Requirement(lowest(each)) for each in requirements()]
    assert {each.name for each in pinned} >= {"fastapi", "httpx", "moto", "typer", "uvicorn"}
    assert all(str(each.specifier).startswith("==") for each in pinned)


@pytest.mark.parametrize(("asked_for", "others_have"), [("httpx", "0.27.0"), ("uvicorn", "0.32.0")])
def test_what_clients_and_workers_are_installed_with_is_allowed(asked_for, others_have):
    """langchain-runpod and infinity-emb, which people install beside the emulator."""
    found = next(each for each in map(Requirement, requirements()) if each.name == asked_for)
    assert others_have in found.specifier


def test_one_without_it_is_refused():
    with pytest.raises(ValueError, match="'httpx' has no lowest version"):
        lowest("httpx")


def test_what_is_not_run_with_them_is_there():
    dry = ["make", "--dry-run", "--no-print-directory", "test-lowest"]
    commands = subprocess.run(dry, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    left_out = re.findall(r"--ignore=(\S+)", commands)
    assert left_out
    assert [each for each in left_out if not (PROJECT / each).exists()] == []
