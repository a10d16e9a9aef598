"""Where the workers of an endpoint run, and which files they run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.workers.handler import HandlerError
from emulator.workers.loading import parts_of

if TYPE_CHECKING:
    from emulator.core.config import EndpointConfig

_PYTHON = frozenset({".py", ".pyx", ".pyd"})
#: What is written by hand and read by a program when it starts.
_SOURCES = _PYTHON | {
    *(".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx"),
    *(".sh", ".bash", ".rb", ".php", ".pl", ".lua", ".r", ".jl", ".go", ".rs", ".java", ".cs"),
    *(".json", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".sql", ".j2", ".jinja"),
}
#: Beside all whose name begins with a dot: folders of what others have written.
_NOT_OURS = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The files from which an endpoint's workers are started."""

    folder: Path
    #: Of the files that count.
    suffixes: frozenset[str]

    def holds(self, path: Path) -> bool:
        """Whether a file is one of it."""
        if path.suffix.lower() not in self.suffixes or not path.is_relative_to(self.folder):
            return False
        *folders, name = path.relative_to(self.folder).parts
        if name.startswith((".", "flycheck_")):
            # Drafts of editors.
            return False
        return not any(folder.startswith(".") or folder in _NOT_OURS for folder in folders)


def project_of(config: EndpointConfig) -> Project | None:
    """A command's working folder, or the folder from which a handler imports; None when it has none.

    :raises HandlerError: there is no such folder.
    """
    if config.image is not None:
        return None
    if config.command:
        return Project(folder=working_folder(config).resolve(), suffixes=_SOURCES)
    if not isinstance(config.handler, str | Path):
        return None
    place, _ = parts_of(config.handler)
    folder = working_folder(config)
    # A link that leads to itself is no file: who loads it says so.
    home = Path(os.path.realpath(folder / place)).parent if place.endswith(".py") else folder.resolve()
    return Project(folder=home, suffixes=_PYTHON)


def working_folder(config: EndpointConfig) -> Path:
    """The folder in which an endpoint's workers run.

    :raises HandlerError: there is no such folder.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise HandlerError("the folder that the emulator was started in is gone: start it anew") from None
    if config.workdir is None:
        return here
    folder = here / config.workdir
    if problem := why_not_a_folder(folder):
        raise HandlerError(f"workdir is {str(config.workdir)!r}: {problem}")
    return folder


def is_worker_module(name: str, folder: Path) -> bool:
    """Whether a dotted name is that of a module in a folder which `python -m` makes a worker."""
    parts = name.split(".")
    if not all(map(str.isidentifier, parts)):
        return False
    place = folder.joinpath(*parts)
    files = [file for file in (place.with_suffix(".py"), place / "__main__.py") if file.is_file()]
    # Of a file that does not, its function may be meant.
    return any(b"serverless" in file.read_bytes() for file in files)


def why_not_a_folder(path: Path) -> str:
    """Why nothing can run in a folder; empty when it can."""
    if not path.is_dir():
        return "it is a file, not a folder" if path.exists() else f"there is no folder {path.absolute()}"
    return "" if os.access(path, os.X_OK) else "it may not be entered"
