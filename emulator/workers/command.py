"""The command line and the environment of a worker's process (wire.md 7)."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.workers.handler import HandlerError
from emulator.workers.loading import parts_of
from emulator.workers.own_state import own_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.core.config import EndpointConfig

_RUNNER = Path(__file__).with_name("runner.py")
#: Production's limit for a worker's start, in s, and the variable that moves it.
_INIT_TIMEOUT_S = 420.0
_INIT_TIMEOUT = "RUNPOD_INIT_TIMEOUT"
#: The shortest that the SDK's ping process survives: what a worker has let go of is known sooner.
_PING_INTERVAL_MS = 1_000


@dataclass(slots=True, frozen=True, kw_only=True)
class WorkerCommand:
    """How one endpoint's worker processes are started."""

    #: How the handler is named in the banner and the log.
    name: str
    arguments: tuple[str, ...]
    #: Where they run.
    folder: Path
    #: The handler's file; None for a module that is not in the project.
    file: Path | None
    #: The function that the runner calls; empty for a script, which takes its jobs by itself.
    function: str

    @classmethod
    def of(cls, config: EndpointConfig) -> WorkerCommand:
        """The command for an endpoint's handler.

        :raises HandlerError: there is no such file, or the handler cannot be run in another process.
        """
        source, python = config.handler, config.python or sys.executable
        if not isinstance(source, str | Path):
            raise HandlerError(
                f"{source!r} cannot be run in a process of its own: name it, as in 'handler.py:function' or"
                " 'module:function', or use worker_kind='inline'"
            )
        place, function = parts_of(source)
        if not place.endswith(".py"):
            file = Path.cwd().joinpath(*place.split(".")).with_suffix(".py")
            return cls(
                name=str(source),
                arguments=(python, "-u", str(_RUNNER), f"{place}:{function}", *config.worker_args),
                folder=Path.cwd(),
                file=file if file.is_file() else None,
                function=function,
            )
        file = Path(place).resolve()
        if not file.is_file():
            raise HandlerError(f"{place}: no such file (looked in {Path.cwd()})")
        run = (str(_RUNNER), f"{file.name}:{function}") if function else (file.name,)
        return cls(
            name=str(source),
            arguments=(python, "-u", *run, *config.worker_args),
            folder=file.parent,
            file=file,
            function=function,
        )

    @property
    def is_script(self) -> bool:
        """Whether it is run as it is."""
        return not self.function

    @property
    def python(self) -> str:
        """The interpreter."""
        return self.arguments[0]


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
    #: Where a worker may leave files, by its id; None when there is no such place.
    folder_of: Callable[[str], Path | None]

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
        base, query = f"{self.url}/v2/{self.endpoint_id}", "?gpu=none&started=here"
        checks = {} if self.system_checks else _WITHOUT_CHECKS
        variables = {
            # The SDK's default is DEBUG, a dozen lines a job.
            "RUNPOD_LOG_LEVEL": inherited.get("RUNPOD_DEBUG_LEVEL", "INFO"),
            **inherited,
            **checks,
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
        return {**variables, **own_state(self.folder_of(worker_id), variables.get("PYTHONPATH"))}


_WITHOUT_CHECKS = {"RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true", "RUNPOD_SKIP_GPU_CHECK": "true"}
