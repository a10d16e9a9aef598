"""What `make test-lowest` installs: the lowest versions that pyproject.toml allows."""

import pytest
from packaging.requirements import Requirement

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
