"""Finds out, without running the handler, what would keep every worker process from starting."""

from __future__ import annotations

import ast
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

from emulator.workers.handler import HandlerError
from emulator.workers.sdk_stand_in import sdk_is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.workers.command import WorkerCommand

#: Real seconds for an interpreter to say whether it has a package.
_PROBE_PATIENCE_S = 30


def check_command(command: WorkerCommand) -> None:
    """Refuse a handler that no worker could run.

    :raises HandlerError: its file is not Python, has no such function, never starts a worker, or needs a
        package that the interpreter does not have.
    """
    if command.file is None:
        module, _, _ = command.name.rpartition(":")
        _need(command, module.partition(".")[0])
        return
    tree = _parsed(command, command.file)
    if tree is None:
        return
    if not command.is_script:
        _check_function(command, tree)
        return
    imported = set(_imported(tree))
    if "runpod" in imported:
        _need(command, "runpod")
    elif not any(_is_neighbour(command.folder, name) for name in imported):
        raise HandlerError(
            f"{command.name} never calls runpod.serverless.start({{'handler': …}}): add the call,"
            f" or name the function: {command.name}:handler"
        )


def check_syntax(path: Path) -> None:
    """Refuse a file that is not Python; one that is gone is none.

    :raises HandlerError: see above.
    """
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except FileNotFoundError:
        return
    except (OSError, SyntaxError, ValueError) as error:
        raise _does_not_load(path.name, error) from error


def _parsed(command: WorkerCommand, file: Path) -> ast.Module | None:
    """The file's code; None when only another interpreter can tell whether it is any."""
    try:
        return ast.parse(file.read_bytes(), str(file))
    except OSError as error:
        raise _does_not_load(command.name, error) from error
    except (SyntaxError, ValueError) as error:
        if command.python != sys.executable:
            return None
        raise _does_not_load(command.name, error) from error


def _does_not_load(name: str, error: Exception) -> HandlerError:
    shown = "".join(traceback.format_exception_only(error)).rstrip()
    return HandlerError(f"{name} failed to load:\n\n{shown}")


def _check_function(command: WorkerCommand, tree: ast.Module) -> None:
    """Whether the file binds the function's name, as far as that can be seen."""
    names = set(_bound(tree.body))
    if command.function in names or "*" in names or "__getattr__" in names:
        return
    functions = sorted(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_"
    )
    raise HandlerError(
        f"{command.name}: there is no {command.function} in it;"
        f" it defines: {', '.join(functions) or 'no functions'}"
    )


def _bound(statements: list[ast.stmt]) -> Iterator[str]:
    """Every name that the statements may bind at the top level."""
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.Import | ast.ImportFrom):
                yield from (name.asname or name.name for name in node.names)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _imported(tree: ast.Module) -> Iterator[str]:
    """The packages and modules that the file imports anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def _is_neighbour(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def _need(command: WorkerCommand, package: str) -> None:
    """Refuse what needs a package that the interpreter does not have.

    :raises HandlerError: see above.
    """
    if package == "runpod" and command.python == sys.executable:
        found = sdk_is_installed()
    else:
        found = _finds(command, package)
    if not found:
        raise HandlerError(
            f"{command.name} needs the package {package!r}, which {command.python} does not have:"
            f" {command.python} -m pip install {package}"
            " (or name the interpreter that has it with --python)"
        )


def _finds(command: WorkerCommand, package: str) -> bool:
    """Whether the interpreter finds a package, without importing it.

    :raises HandlerError: the interpreter cannot be run.
    """
    probe = (
        "import importlib.util, sys;"
        " sys.path[0] = '';"
        f" sys.exit(importlib.util.find_spec({package!r}) is None)"
    )
    try:
        answer = subprocess.run(
            [command.python, "-c", probe],
            cwd=command.folder,
            check=False,
            timeout=_PROBE_PATIENCE_S,
            capture_output=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HandlerError(f"the interpreter {command.python} cannot be run: {error}") from error
    return answer.returncode == 0
