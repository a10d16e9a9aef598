"""Finds out, without running the handler, what would keep every worker process from starting."""

from __future__ import annotations

import ast
import asyncio
import os
import shlex
import signal
import sys
import traceback
from asyncio.subprocess import DEVNULL
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.workers.handler import HandlerError
from emulator.workers.off_loop import off_loop
from emulator.workers.own_modules import no_module
from emulator.workers.sdk_stand_in import sdk_is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.workers.command import WorkerCommand

#: Real seconds for an interpreter to say whether it has a package.
_PROBE_PATIENCE_S = 30


async def check_command(command: WorkerCommand) -> None:
    """Refuse what no worker could run.

    :raises HandlerError: the handler's file is not Python, has no such function, never starts a worker, or
        needs a package that the interpreter does not have; a command's program cannot be run.
    """
    if package := await off_loop(command.name, partial(_needed_package, command)):
        await _need(command, package)


async def check_files(command: WorkerCommand) -> None:
    """Refuse what can be seen in the files to keep workers from starting that run on other machines: what
    there is beside, only those know.

    :raises HandlerError: the handler's file is not Python, has no such function, or never starts a worker.
    """
    if command.kind != "command":
        await off_loop(command.name, partial(_needed_package, command))


def _needed_package(command: WorkerCommand) -> str:
    """The package that the workers' interpreter is to be asked for; empty when it need not be asked.

    :raises HandlerError: what can be seen in the files keeps workers from starting.
    """
    if command.kind == "command":
        _check_program(command)
        return ""
    if command.file is None:
        module, _, _ = command.name.rpartition(":")
        return module.partition(".")[0]
    tree = _parsed(command, command.file)
    if tree is None:
        return ""
    if not command.is_script:
        _check_function(command, tree)
        return ""
    imported = set(_imported(tree))
    if "runpod" in imported:
        return "runpod"
    if not any(_is_neighbour(command, name) for name in imported):
        raise HandlerError(
            f"{command.name} never calls runpod.serverless.start({{'handler': …}}): add the call,"
            f" or name the function: {command.name}:handler"
        )
    return ""


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


def _is_neighbour(command: WorkerCommand, name: str) -> bool:
    """Whether a module is the user's own: beside the handler, or on the PYTHONPATH of the workers."""
    added = command.variables.get("PYTHONPATH", os.environ.get("PYTHONPATH", "")).split(os.pathsep)
    folders = (*command.import_folders, *(command.folder / each for each in added if each))
    return any((folder / f"{name}.py").is_file() or (folder / name).is_dir() for folder in folders if name)


async def _need(command: WorkerCommand, package: str) -> None:
    """Refuse what needs a package that the interpreter does not have.

    :raises HandlerError: see above.
    """
    at_once = package == "runpod" and command.python == sys.executable and sdk_is_installed()
    if not at_once and not await _finds(command, package):
        if command.file is None:
            # It is the handler's own module: what to install is not said, as the name may be a typo's.
            raise HandlerError(no_module(command.name, package, command.import_folders))
        raise HandlerError(
            f"{command.name} needs the package {package!r}, which {command.python} does not have:"
            f" {command.python} -m pip install {package}"
            " (or name the interpreter that has it with --python)"
        )


async def _finds(command: WorkerCommand, package: str) -> bool:
    """Whether the interpreter finds a package, without importing it.

    :raises HandlerError: the interpreter cannot be run.
    """
    probe = (
        "import importlib.util, sys;"
        f" sys.path[:1] = {[str(folder) for folder in command.import_folders]!r};"
        f" sys.exit(importlib.util.find_spec({package!r}) is None)"
    )
    try:
        process = await asyncio.create_subprocess_exec(
            command.python, "-c", probe,
            cwd=command.folder,
            env={**os.environ, **command.variables},
            stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise HandlerError(f"the interpreter {command.python} cannot be run: {error}") from error
    try:
        return await asyncio.wait_for(process.wait(), _PROBE_PATIENCE_S) == 0
    except TimeoutError as error:
        raise HandlerError(
            f"the interpreter {command.python} cannot be run: it has not ended after {_PROBE_PATIENCE_S:g} s"
        ) from error
    finally:
        # What it has started goes with it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


#: How much of a program tells what it is.
_HEAD = 1024


def _check_program(command: WorkerCommand) -> None:
    """Refuse a command whose program cannot be started.

    :raises HandlerError: see above.
    """
    program, name = command.program, f"the command {command.name}"
    if "/" not in program:
        near = f": write ./{program}" if (command.folder / program).is_file() else ""
        raise HandlerError(
            f"{name} cannot be run: there is no program {program!r} on the PATH of the workers"
            + (near or _OF_A_SHELL)
        )
    file = command.folder / program
    if not file.is_file():
        raise HandlerError(f"{name} cannot be run: there is no program {file}")
    by_name = shlex.join((_interpreter_for(program), program))
    if not os.access(file, os.X_OK):
        raise HandlerError(
            f"{name} cannot be run: {program} is not executable: chmod +x {shlex.quote(program)},"
            f" or run it by {by_name}"
        )
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD)
    except OSError:
        # It may be run without being read.
        return
    if problem := _problem_of(head):
        raise HandlerError(f"{name} cannot be run: {program} {problem}, or run it by {by_name}")


_OF_A_SHELL = (
    ": no shell runs a command; what needs one is written sh -c '…', and a variable is given as"
    " EMULATOR_WORKER_ENV_NAME=value"
)


def _problem_of(head: bytes) -> str:
    """What keeps the system from running a file that begins so."""
    if not head.startswith(b"#!"):
        # A binary has zeros in its head.
        return "" if b"\0" in head else "does not say what runs it: begin it with a line like #!/bin/sh"
    line = head.partition(b"\n")[0]
    if line.endswith(b"\r"):
        return "has the line ends of Windows: save it with those of Unix"
    words = line[2:].split()
    if not words or not Path(os.fsdecode(words[0])).exists():
        return f"is to be run by {os.fsdecode(line[2:].strip())!r}, which is not there: change its first line"
    return ""


def _interpreter_for(program: str) -> str:
    suffix = Path(program).suffix
    return {".py": "python", ".js": "node", ".mjs": "node", ".cjs": "node"}.get(suffix, "sh")
