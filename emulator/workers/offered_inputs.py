"""The inputs that a handler's project offers for trying it: the SDK's file, and the Hub's (wire.md 9)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.workers.handler import HandlerError
from emulator.workers.project import project_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.core.config import EndpointConfig

_FILES = ("test_input.json", ".runpod/tests.json", "tests.json")
_SIZE_MAX = 1024 * 1024


@dataclass(slots=True, frozen=True)
class Offered:
    """One input, and where it is from."""

    name: str
    file: str
    input: Any


def offered_inputs(config: EndpointConfig) -> list[Offered]:
    """What the files beside the handler offer; a file that cannot be read offers nothing."""
    try:
        project = project_of(config)
    except HandlerError:
        return []
    folders = [] if project is None else [project.folder, project.folder.parent]
    return [offered for folder in folders for file in _FILES for offered in _offered(folder, file)]


def _offered(folder: Path, file: str) -> Iterator[Offered]:
    path = folder / file
    try:
        if path.stat().st_size > _SIZE_MAX:
            return
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return
    tests = content.get("tests", [content]) if isinstance(content, dict) else content
    for number, test in enumerate(tests if isinstance(tests, list) else [], 1):
        if isinstance(test, dict) and "input" in test:
            name = test.get("name")
            yield Offered(name if isinstance(name, str) else f"{path.name} {number}", file, test["input"])
