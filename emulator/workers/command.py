"""The command line of a worker's process."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from emulator.core.config import WorkerKind
from emulator.workers.handler import HandlerError
from emulator.workers.loading import no_such_file, parts_of
from emulator.workers.project import is_worker_module, working_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.core.config import EndpointConfig

_RUNNER = Path(__file__).with_name("runner.py")
Kind: TypeAlias = Literal["script", "function", "command"]


@dataclass(slots=True, frozen=True, kw_only=True)
class WorkerCommand:
    """How one endpoint's worker processes are started."""

    kind: Kind
    #: How it is named in the banner and the log.
    name: str
    arguments: tuple[str, ...]
    #: Where they run.
    folder: Path
    #: The handler's file; None for a command, and for a module that is not in the project.
    file: Path | None
    #: The function that the runner calls; empty for what takes its jobs by itself.
    function: str
    #: Where Python first looks for what the handler imports; empty for a command.
    import_folders: tuple[Path, ...]
    #: The interpreter that is `python` to them.
    python: str
    #: Their PATH.
    path: str
    #: The variables that the user adds.
    variables: Mapping[str, str]

    @classmethod
    def of(cls, config: EndpointConfig) -> WorkerCommand:
        """The command for an endpoint's command, or for its handler.

        :raises HandlerError: there is no such file or folder, or the handler cannot be run elsewhere.
        """
        source, folder, python = config.handler, working_folder(config), config.python or sys.executable
        path = _path_of(python, config.worker_env)

        def running(
            kind: Kind,
            *words: str,
            file: Path | None = None,
            function: str = "",
            import_folders: tuple[Path, ...] = (),
        ) -> WorkerCommand:
            return cls(
                kind=kind,
                name=shlex.join(config.command) or str(source),
                arguments=(*words, *config.worker_args),
                folder=folder,
                file=file,
                function=function,
                import_folders=import_folders,
                python=python,
                path=path,
                variables=config.worker_env,
            )

        if config.command:
            return running("command", _program(config, python, path), *config.command[1:])
        if not isinstance(source, str | Path):
            raise HandlerError(
                f"{source!r} cannot be run in a process of its own: name it, as in 'handler.py:function' or"
                " 'module:function', or use worker_kind='inline'"
            )
        place, function = parts_of(source)
        runner = (python, "-u", str(_RUNNER), f"{place}:{function}")
        if not place.endswith(".py"):
            module = folder.joinpath(*place.split(".")).with_suffix(".py")
            return running(
                "function",
                *runner,
                file=module if module.is_file() else None,
                function=function,
                import_folders=(folder,),
            )
        file = folder / place
        if not file.is_file():
            raise no_such_file(place, folder)
        home = file.resolve().parent
        if function:
            return running("function", *runner, file=file, function=function, import_folders=(home, folder))
        return running("script", python, "-u", place, file=file, import_folders=(home,))

    @property
    def is_script(self) -> bool:
        """Whether it is a Python file that is run as it is."""
        return self.kind == "script"

    @property
    def program(self) -> str:
        """What is started."""
        return self.arguments[0]


def with_module_as_command(config: EndpointConfig) -> EndpointConfig:
    """The settings of an endpoint whose handler is a module of its working folder, as in `app.handler`: its
    workers run `python -m app.handler`. All others are as they were.

    :raises HandlerError: there is no such folder.
    """
    name = config.handler
    of_processes = config.worker_kind in (WorkerKind.PROCESS, WorkerKind.RAY)
    if not of_processes or not isinstance(name, str) or name.endswith(".py"):
        return config
    if not is_worker_module(name, working_folder(config)):
        return config
    return replace(config, handler=None, command=("python", "-m", name))


def _program(config: EndpointConfig, python: str, path: str) -> str:
    """The program of a command; a bare name that is nowhere is left as it is."""
    program = config.command[0]
    if program in ("python", "python3") and "PATH" not in config.worker_env:
        program = python
    if "/" in program:
        return program
    return shutil.which(program, path=path) or program


def _path_of(python: str, variables: Mapping[str, str]) -> str:
    """The PATH on which `python` is the workers' interpreter, unless the user gives them another."""
    if "PATH" in variables:
        return variables["PATH"]
    path = os.environ.get("PATH", os.defpath)
    interpreter, found = shutil.which(python, path=path), shutil.which("python", path=path)
    if interpreter is None:
        return path
    folder = Path(interpreter).absolute().parent
    if found is not None and Path(found).parent == folder:
        return path
    return os.pathsep.join(filter(None, (str(folder), path)))
