"""What can be set for an endpoint, with production's names and defaults (wire.md 6)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from emulator.core.bounds import RESULT_MIB_MAX, TIME_MAX_MS, WORKERS_MAX, shown_number
from emulator.core.container import ContainerSettings
from emulator.core.placement import Placement
from emulator.core.policy import (
    EXECUTION_TIMEOUT_MAX_MS,
    EXECUTION_TIMEOUT_MIN_MS,
    TTL_DEFAULT_MS,
    TTL_MAX_MS,
    TTL_MIN_MS,
    ExecutionPolicy,
)
from emulator.core.request import MissingInput
from emulator.core.scaling import ScalerType
from emulator.errors import ConfigError

#: Bytes of a text that is handed to a process, and of a name in a path.
_TEXT_MAX = 100_000
_PART_MAX = 255
#: Each setting that is a number, from what to what, where production's rules say no more of it.
_BOUNDS = {
    "workers_min": (0, WORKERS_MAX),
    "workers_max": (0, WORKERS_MAX),
    "scaler_value": (1, TIME_MAX_MS // 1000),
    "ttl_ms": (TTL_MIN_MS, TTL_MAX_MS),
    "idle_timeout_s": (0, TIME_MAX_MS // 1000),
    "cold_start_ms": (0, TIME_MAX_MS),
    "retention_ms": (0, TIME_MAX_MS),
    "sync_retention_ms": (0, TIME_MAX_MS),
    "stop_grace_ms": (0, TIME_MAX_MS),
    "heartbeat_timeout_ms": (0, TIME_MAX_MS),
}


class WorkerKind(StrEnum):
    """Who runs an endpoint's jobs. Workers that come by themselves join any of them (wire.md 7)."""

    INLINE = "inline"
    """The emulator's own process: the fastest; a handler that blocks cannot be stopped."""
    PROCESS = "process"
    """A process per worker, as in production: the user's script with the real SDK, or a bare function."""
    DOCKER = "docker"
    """A container per worker, of an image: what is deployed in production."""
    RAY = "ray"
    """A process per worker, as `process`, each an actor on a Ray cluster."""
    EXTERNAL = "external"
    """Only workers that come by themselves: containers, other machines."""


#: The kinds whose workers run a command in place of a handler.
_OF_COMMANDS = (WorkerKind.PROCESS, WorkerKind.DOCKER, WorkerKind.RAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """The settings of one endpoint.

    :raises ConfigError: a value is out of bounds.
    """

    #: What its workers run: a callable, `"path.py"`, `"path.py:function"` or `"module:function"`;
    #: None is the built-in mock worker.
    handler: Any = None
    #: The image that its workers are containers of, in place of a handler.
    image: str | None = None
    #: How such containers are made.
    container: ContainerSettings = field(default_factory=ContainerSettings)
    #: What workers take of the nodes of a cluster; of worker_kind `ray`.
    placement: Placement = field(default_factory=Placement)
    #: Who runs it; with an image it is `docker`.
    worker_kind: WorkerKind = WorkerKind.INLINE
    #: Workers that are kept up without any job.
    workers_min: int = 0
    #: Never more workers than this.
    workers_max: int = 3
    #: Seconds without a job after which a worker is stopped.
    idle_timeout_s: float = 5.0
    #: How long a handler may hold a job that does not say so itself.
    execution_timeout_ms: int = 600_000
    #: How long a job that does not say so itself may exist.
    ttl_ms: int = TTL_DEFAULT_MS
    scaler_type: ScalerType = ScalerType.QUEUE_DELAY
    #: QUEUE_DELAY: seconds; REQUEST_COUNT: jobs per worker.
    scaler_value: int = 4
    #: How long a worker takes to start, beyond what its process really takes.
    cold_start_ms: int = 0
    #: A worker that is idle for too long is parked, not ended: the next start takes no time.
    flashboot: bool = False
    #: The interpreter of process workers; None is the emulator's own.
    python: str | None = None
    #: Variables of process workers, beyond those of the emulator and of wire.md 7.
    worker_env: Mapping[str, str] = field(default_factory=dict)
    #: What process workers run in place of a handler, and containers in place of their image's CMD: the words
    #: of any command, or a text that is split into words as a POSIX shell does. No shell runs it.
    command: tuple[str, ...] = ()
    #: The folder that workers run in, as the WORKDIR of an image; None is the emulator's own.
    workdir: str | Path | None = None
    #: What follows the script, or the command, on a process worker's command line.
    worker_args: tuple[str, ...] = ()
    #: Whether the SDK's own checks run when a process worker starts; they want the network, 4 GB of
    #: memory and 10 % of the disk (wire.md 7).
    system_checks: bool = False
    #: How long the result of a job submitted by /run can be read (wire.md 3).
    retention_ms: int = 1_800_000
    #: The same for /runsync.
    sync_retention_ms: int = 60_000
    #: MiB that a result may have; None is production's limit, 10 for /run and 20 for /runsync (wire.md 2).
    result_limit_mib: int | None = None
    #: What becomes of a request without an input: refused, or taken as production takes it (wire.md 2).
    missing_input: MissingInput = MissingInput.REFUSE
    #: How long a worker may hold on to a job that it was told to stop.
    stop_grace_ms: int = 3_000
    #: A worker that has sent heartbeats and then none for this long is lost, with its jobs.
    heartbeat_timeout_ms: int = 40_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "scaler_type", _scaler_type(self.scaler_type))
        object.__setattr__(self, "missing_input", _missing_input(self.missing_input))
        object.__setattr__(self, "worker_kind", _worker_kind(self.worker_kind))
        object.__setattr__(self, "command", words_of(self.command))
        if self.command and self.handler is not None:
            raise ConfigError(
                f"there is a handler ({self.handler}) and a command ({shlex.join(self.command)}):"
                " give one of them; arguments belong into the command"
            )
        if self.image is not None and self.worker_kind is WorkerKind.INLINE:
            object.__setattr__(self, "worker_kind", WorkerKind.DOCKER)
        if self.command and self.worker_kind not in _OF_COMMANDS:
            raise ConfigError(
                f"a command runs in processes: worker_kind is {str(self.worker_kind)!r}, it must be 'process'"
            )
        self._check_image()
        if self.worker_kind is WorkerKind.RAY and self.python is not None:
            raise ConfigError(
                "python is of processes on this machine: on a cluster workers run with the interpreter of the"
                " Ray of their node"
            )
        self._check_texts()
        for name, (lowest, highest) in _BOUNDS.items():
            # Neither is NaN between them.
            if not lowest <= (value := getattr(self, name)) <= highest:
                raise ConfigError(f"{name} is {shown_number(value)}: it must be from {lowest} to {highest}")
        if (limit := self.result_limit_mib) is not None and not 1 <= limit <= RESULT_MIB_MAX:
            raise ConfigError(
                f"result_limit_mib is {shown_number(limit)}: it must be from 1 to {RESULT_MIB_MAX}"
            )
        if self.workers_min > self.workers_max:
            raise ConfigError(
                f"workers_min is {self.workers_min}, above workers_max {self.workers_max}: raise workers_max"
            )
        if not EXECUTION_TIMEOUT_MIN_MS <= self.execution_timeout_ms <= EXECUTION_TIMEOUT_MAX_MS:
            raise ConfigError(
                f"execution_timeout_ms is {shown_number(self.execution_timeout_ms)}: it must be at least"
                f" {EXECUTION_TIMEOUT_MIN_MS} and at most {EXECUTION_TIMEOUT_MAX_MS}"
            )

    def _check_image(self) -> None:
        """An image has all that its workers run."""
        if self.worker_kind is WorkerKind.DOCKER and self.image is None:
            raise ConfigError("worker_kind is 'docker', and there is no image: name one")
        if self.image is None:
            return
        if self.worker_kind is not WorkerKind.DOCKER:
            raise ConfigError(
                f"there is an image ({self.image}), and worker_kind is {str(self.worker_kind)!r}: an image"
                " runs in containers, by worker_kind 'docker'"
            )
        if not self.image.strip() or any(character.isspace() for character in self.image):
            raise ConfigError(f"image is {self.image!r}: it must be a name such as my-worker:latest")
        if self.handler is not None:
            raise ConfigError(
                f"there is a handler ({self.handler}) and an image ({self.image}): give one of them; an image"
                " starts its own handler, or what the command says"
            )
        if self.worker_args and not self.command:
            raise ConfigError("arguments follow a command: give the one that the image is to run, too")
        for name in ("python", "workdir"):
            if getattr(self, name) is not None:
                raise ConfigError(f"{name} is of processes on this machine: an image has its own")

    def _check_texts(self) -> None:
        """What the system would not take as a path, an argument or a variable."""
        for name in ("handler", "image", "python", "workdir"):
            if isinstance(path := getattr(self, name), str | Path):
                _check_text(name, str(path))
                if any(len(os.fsencode(part)) > _PART_MAX for part in str(path).split("/")):
                    raise ConfigError(f"{name}: a part of a path has {_PART_MAX} bytes at most")
        for word in (*self.command, *self.worker_args):
            _check_text("command" if self.command else "worker_args", word)
        if any(len(os.fsencode(part)) > _PART_MAX for part in "".join(self.command[:1]).split("/")):
            raise ConfigError(f"command: a part of a path has {_PART_MAX} bytes at most")
        for variable, value in self.worker_env.items():
            _check_text("worker_env", variable)
            _check_text(f"worker_env.{variable}", value)
            if not variable or "=" in variable:
                raise ConfigError(f"worker_env: {variable[:100]!r} cannot be the name of a variable")

    @property
    def default_policy(self) -> ExecutionPolicy:
        """The policy of a job that brings none of its own."""
        return ExecutionPolicy(execution_timeout_ms=self.execution_timeout_ms, ttl_ms=self.ttl_ms)


def _check_text(name: str, text: str) -> None:
    try:
        size = len(os.fsencode(text))
    except UnicodeEncodeError:
        raise ConfigError(f"{name}: has half of a surrogate pair, which no system takes") from None
    if "\0" in text or size > _TEXT_MAX:
        raise ConfigError(f"{name}: must have no NUL character, and {_TEXT_MAX} bytes at most")


def _scaler_type(value: str) -> ScalerType:
    try:
        return ScalerType(value)
    except ValueError:
        raise ConfigError(f"scaler_type is {value!r}: it must be QUEUE_DELAY or REQUEST_COUNT") from None


def _missing_input(value: str) -> MissingInput:
    try:
        return MissingInput(value)
    except ValueError:
        raise ConfigError(f"missing_input is {value!r}: it must be refuse or accept") from None


def words_of(command: str | Iterable[str]) -> tuple[str, ...]:
    """The words of a command, as a POSIX shell splits them.

    :raises ConfigError: a quote is open, or there is no program.
    """
    try:
        words = tuple(shlex.split(command) if isinstance(command, str) else command)
    except ValueError as error:
        raise ConfigError(f"the command {command!r} cannot be split into words: {error}") from None
    if not all(isinstance(word, str) and "\0" not in word for word in words):
        raise ConfigError(f"the command {command!r} must be a text, or a list of words")
    if not any(words[:1]) and (words or isinstance(command, str)):
        raise ConfigError(f"the command {command!r} names no program")
    return words


def _worker_kind(value: str) -> WorkerKind:
    try:
        return WorkerKind(value)
    except ValueError:
        raise ConfigError(
            f"worker_kind is {value!r}: it must be inline, process, docker, ray or external"
        ) from None
