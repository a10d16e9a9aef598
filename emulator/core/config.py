"""What can be set for an endpoint, with production's names and defaults (wire.md 6)."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from emulator.core.policy import (
    EXECUTION_TIMEOUT_ABOVE_MS,
    EXECUTION_TIMEOUT_MAX_MS,
    TTL_DEFAULT_MS,
    TTL_MAX_MS,
    TTL_MIN_MS,
    ExecutionPolicy,
)
from emulator.core.scaling import ScalerType
from emulator.errors import ConfigError

_NOT_NEGATIVE = (
    "idle_timeout_s",
    "cold_start_ms",
    "retention_ms",
    "sync_retention_ms",
    "stop_grace_ms",
    "heartbeat_timeout_ms",
)


class WorkerKind(StrEnum):
    """Who runs an endpoint's jobs. Workers that come by themselves join any of them (wire.md 7)."""

    INLINE = "inline"
    """The emulator's own process: the fastest; a handler that blocks cannot be stopped."""
    PROCESS = "process"
    """A process per worker, as in production: the user's script with the real SDK, or a bare function."""
    EXTERNAL = "external"
    """Only workers that come by themselves: containers, other machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """The settings of one endpoint.

    :raises ConfigError: a value is out of bounds.
    """

    #: What its workers run: a callable, `"path.py"`, `"path.py:function"` or `"module:function"`;
    #: None is the built-in mock worker.
    handler: Any = None
    #: Who runs it.
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
    #: What process workers run in place of a handler: the words of any command, or a text that is split into
    #: words as a POSIX shell does. No shell runs it.
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
    #: How long a worker may hold on to a job that it was told to stop.
    stop_grace_ms: int = 3_000
    #: A worker that has sent heartbeats and then none for this long is lost, with its jobs.
    heartbeat_timeout_ms: int = 40_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "scaler_type", _scaler_type(self.scaler_type))
        object.__setattr__(self, "worker_kind", _worker_kind(self.worker_kind))
        object.__setattr__(self, "command", words_of(self.command))
        if self.command and self.handler is not None:
            raise ConfigError(
                f"there is a handler ({self.handler}) and a command ({shlex.join(self.command)}):"
                " give one of them; arguments belong into the command"
            )
        if self.command and self.worker_kind is not WorkerKind.PROCESS:
            raise ConfigError(
                f"a command runs in processes: worker_kind is {str(self.worker_kind)!r}, it must be 'process'"
            )
        if self.workers_min < 0 or self.workers_max < 0:
            raise ConfigError("workers_min and workers_max cannot be negative")
        if self.workers_min > self.workers_max:
            raise ConfigError(
                f"workers_min is {self.workers_min}, above workers_max {self.workers_max}: raise workers_max"
            )
        if not EXECUTION_TIMEOUT_ABOVE_MS < self.execution_timeout_ms <= EXECUTION_TIMEOUT_MAX_MS:
            raise ConfigError(
                f"execution_timeout_ms is {self.execution_timeout_ms}: it must be more than"
                f" {EXECUTION_TIMEOUT_ABOVE_MS} and at most {EXECUTION_TIMEOUT_MAX_MS}"
            )
        if self.scaler_value < 1:
            raise ConfigError(f"scaler_value is {self.scaler_value}: it must be at least 1")
        if not TTL_MIN_MS <= self.ttl_ms <= TTL_MAX_MS:
            raise ConfigError(f"ttl_ms is {self.ttl_ms}: it must be from {TTL_MIN_MS} to {TTL_MAX_MS}")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: it cannot be negative")

    @property
    def default_policy(self) -> ExecutionPolicy:
        """The policy of a job that brings none of its own."""
        return ExecutionPolicy(execution_timeout_ms=self.execution_timeout_ms, ttl_ms=self.ttl_ms)


def _scaler_type(value: str) -> ScalerType:
    try:
        return ScalerType(value)
    except ValueError:
        raise ConfigError(f"scaler_type is {value!r}: it must be QUEUE_DELAY or REQUEST_COUNT") from None


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
        raise ConfigError(f"worker_kind is {value!r}: it must be inline, process or external") from None
