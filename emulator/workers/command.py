"""The command line and the environment of a worker's process (wire.md 7)."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from emulator.core.config import WorkerKind
from emulator.workers.handler import HandlerError
from emulator.workers.loading import no_such_file, parts_of
from emulator.workers.own_state import own_state
from emulator.workers.project import is_worker_module, working_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from emulator.core.config import EndpointConfig

_RUNNER = Path(__file__).with_name("runner.py")
Kind: TypeAlias = Literal["script", "function", "command"]
#: Production's limit for a worker's start, in s, and the variable that moves it.
_INIT_TIMEOUT_S = 420.0
_INIT_TIMEOUT = "RUNPOD_INIT_TIMEOUT"
#: The shortest that the SDK's ping process survives: what a worker has let go of is known sooner.
_PING_INTERVAL_MS = 1_000


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
    if config.worker_kind is not WorkerKind.PROCESS or not isinstance(name, str) or name.endswith(".py"):
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


@dataclass(slots=True, frozen=True, kw_only=True)
class WorkerEnvironment:
    """The variables that make the SDK of a process a worker of one endpoint."""

    endpoint_id: str
    #: Where the emulator is served, e.g. `http://127.0.0.1:8000`.
    url: str
    api_key: str
    #: What the user adds; it beats all else.
    extra: dict[str, str]
    system_checks: bool
    #: Their PATH, and the folder they run in.
    path: str
    folder: Path
    #: A worker's secret, by its id.
    secret_of: Callable[[str], str]
    #: Where a worker may leave files, by its id; None when there is no such place.
    state_folder: Callable[[str], Path | None]

    def init_timeout_s(self) -> float:
        """Seconds on the clock within which a worker must have asked for its first job."""
        text = self.extra.get(_INIT_TIMEOUT, os.environ.get(_INIT_TIMEOUT, ""))
        with suppress(ValueError):
            if math.isfinite(limit_s := float(text)) and limit_s > 0:
                return limit_s
        return _INIT_TIMEOUT_S

    def variables(self, worker_id: str) -> dict[str, str]:
        """All of a worker's variables. The emulator's own settings are none of its business."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EMULATOR_")}
        base, query = f"{self.url}/v2/{self.endpoint_id}", f"?gpu=none&secret={self.secret_of(worker_id)}"
        checks = {} if self.system_checks else _WITHOUT_CHECKS
        variables = {
            # The SDK's default is DEBUG, a dozen lines a job.
            "RUNPOD_LOG_LEVEL": inherited.get("RUNPOD_DEBUG_LEVEL", "INFO"),
            **inherited,
            **checks,
            "PATH": self.path,
            "PWD": str(self.folder),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": ",".join(filter(None, (inherited.get("NO_PROXY"), "127.0.0.1,localhost,::1"))),
            "RUNPOD_AI_API_KEY": self.api_key,
            "RUNPOD_ENDPOINT_ID": self.endpoint_id,
            "RUNPOD_POD_ID": worker_id,
            "RUNPOD_POD_HOSTNAME": worker_id,
            "RUNPOD_PING_INTERVAL": str(_PING_INTERVAL_MS),
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID{query}",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID{query}",
            **self.extra,
        }
        return {**variables, **own_state(self.state_folder(worker_id), variables.get("PYTHONPATH"))}


_WITHOUT_CHECKS = {"RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true", "RUNPOD_SKIP_GPU_CHECK": "true"}
