"""Prints the lowest versions that pyproject.toml allows of what the emulator needs, as pip's requirements.

    python -m tests.lowest > lowest.txt && python -m pip install -r lowest.txt

What the tests need beside it is left as it is. A requirement without a lowest version is an error.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

_ROOT = Path(__file__).parents[1]
#: The extras that users install. The SDK's has one version alone, which is there already.
_EXTRAS = ("docker", "s3", "testcontainers", "tls")


def lowest(requirement: str) -> str:
    """The requirement with its lowest version alone.

    :raises ValueError: it has none.
    """
    parsed = Requirement(requirement)
    versions = [each.version for each in parsed.specifier if each.operator in (">=", "~=", "==")]
    if len(versions) != 1:
        raise ValueError(f"{requirement!r} has no lowest version: write >= and the first that works")
    extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
    return f"{parsed.name}{extras}=={versions[0]}"


def requirements() -> list[str]:
    """All that is needed at run time, with any extra."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(each for extra in _EXTRAS for each in optional[extra])]


if __name__ == "__main__":
    print("\n".join(map(lowest, requirements())))
