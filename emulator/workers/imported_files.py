"""The files of a project that a worker runs before it asks for a job, as far as their text tells."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NOT_NOW = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def imported_files(file: Path, folders: Iterable[Path]) -> list[Path]:
    """The file, and what it imports at its top level from `folders`, and so on. What is not Python is in
    it, and leads no further.
    """
    roots, waiting = list(dict.fromkeys(folders)), [file]
    found: dict[Path, None] = {}
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        try:
            tree = ast.parse(path.read_bytes(), str(path))
        except (OSError, SyntaxError, ValueError):
            continue
        for level, name in _imports(tree):
            waiting += _files_of(name, list(path.parents[level - 1 : level]) if level else roots)
    return list(found)


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The modules that are imported while the file is: how many levels up, and the dotted name."""
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from ((0, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            # What is named may be a module too.
            yield from ((node.level, f"{node.module or ''}.{each.name}".strip(".")) for each in node.names)
        elif not isinstance(node, _NOT_NOW):
            nodes += ast.iter_child_nodes(node)


def _files_of(name: str, roots: list[Path]) -> Iterator[Path]:
    """The files that the import of a module runs: its packages', and its own."""
    for root in roots:
        place = root
        for part in name.split("."):
            place /= part
            for file in (place / "__init__.py", place.with_suffix(".py")):
                if file.is_file():
                    yield file
