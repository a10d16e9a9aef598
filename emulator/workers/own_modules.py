"""What to say when the module of a handler is not there."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def no_module(name: str, module: str, folders: Sequence[Path]) -> str:
    """The sentence for a handler `name`, whose `module` is neither in the folders nor installed.

    A module that has nearly this name is offered; to install one is not, as a stranger's package may have it.
    """
    there = {each.stem for folder in folders for each in folder.glob("*.py")}
    near = difflib.get_close_matches(module, there, 1)
    hint = f"did you mean {near[0]}?" if near else "is it elsewhere, or another interpreter's (--python)?"
    looked = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    return f"{name}: there is no module {module!r} (looked in {looked}, and among what is installed): {hint}"
