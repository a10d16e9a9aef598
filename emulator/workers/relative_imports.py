"""What to run in place of a file whose relative imports need its package."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WITHOUT_PACKAGE = "attempted relative import with no known parent package"
_FRAME = re.compile(r'\s*File "(.+)", line \d+')


def relative_import_hint(lines: Sequence[str], folder: Path, function: str = "") -> str:
    """What to do about a relative import that failed; empty when the lines tell of none.

    :param lines: what Python wrote last.
    :param folder: the working folder.
    :param function: of the file, if that was to be run.
    """
    if not any(_WITHOUT_PACKAGE in line for line in lines):
        return ""
    files = [match[1] for line in lines if (match := _FRAME.match(line))]
    if len(set(files)) != 1:
        # Something imports the file from outside of its package: another command does not help.
        return ""
    file = folder / files[0]
    module, above = _module_of(file, folder)
    workdir = f" --workdir {shlex.quote(str(above))}" if above != folder else ""
    return (
        f"{file.name} is a module of a package: run it as one,"
        f' with{workdir} --command "python -m {shlex.quote(module)}",'
        f" or name its function: {module}:{function or 'handler'}"
    )


def _module_of(file: Path, folder: Path) -> tuple[str, Path]:
    """A file's name as a module, and the folder from which it has that name."""
    real = folder.resolve()
    home = file.resolve().parent
    if home.is_relative_to(real) and home != real:
        above = real
    else:
        above = home.parent
        while (above / "__init__.py").is_file() and above != above.parent:
            above = above.parent
    parts = (*home.relative_to(above).parts, file.stem)
    if file.stem in ("__main__", "__init__"):
        parts = parts[:-1]
    return ".".join(parts), folder if above == real else above
