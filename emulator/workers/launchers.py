"""Which launcher starts an endpoint's workers, and how it takes up changed code."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from emulator.core.config import EndpointConfig, WorkerKind
from emulator.core.gateway import Gateway
from emulator.workers.command import WorkerCommand, WorkerEnvironment
from emulator.workers.handler import Handler
from emulator.workers.handler_thread import HandlerThread
from emulator.workers.inline import InlineLauncher
from emulator.workers.loading import forget_project, load_handler, looks_async, parts_of
from emulator.workers.mock_worker import mock_worker
from emulator.workers.preflight import check_command, check_syntax
from emulator.workers.process import ProcessLauncher
from emulator.workers.workplaces import Workplaces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emulator.core.clock import Clock
    from emulator.core.endpoint import Endpoint
    from emulator.workers.guard import Guard

Launcher: TypeAlias = InlineLauncher | ProcessLauncher


def worker_kind(config: EndpointConfig) -> WorkerKind:
    """Who really runs an endpoint's jobs: the built-in mock worker needs no process of its own."""
    if config.handler is None and config.worker_kind is WorkerKind.PROCESS:
        return WorkerKind.INLINE
    return config.worker_kind


def inline_launcher(endpoint: Endpoint, clock: Clock) -> InlineLauncher:
    """A launcher of workers in this process.

    :raises HandlerError: the handler cannot be loaded.
    """
    source = endpoint.config.handler
    if source is None:
        workplaces = Workplaces(mock_worker(clock, endpoint.stubs))
    else:
        workplaces = Workplaces(source) if isinstance(source, Handler) else _workplaces(source)
    return InlineLauncher(workplaces, Gateway(endpoint), clock, cold_start_ms=endpoint.config.cold_start_ms)


def _workplaces(source: object) -> Workplaces:
    """The handler, loaded in the thread in which it is to run: the emulator's, or its first worker's.

    :raises HandlerError: it cannot be loaded.
    """
    if not isinstance(source, str | Path) or looks_async(source):
        return Workplaces(load_handler(source))
    place, function = parts_of(source)
    thread = HandlerThread("runpod-worker-1")
    handler = thread.load(partial(load_handler, source)).result()
    if not place.endswith(".py"):
        # A module is there once in a process.
        return Workplaces(handler, thread=thread)
    # The current folder may be another one by then.
    again = f"{Path(place).resolve()}:{function}" if function else Path(place).resolve()
    return Workplaces(handler, partial(load_handler, again), thread)


def process_launcher(
    endpoint: Endpoint, command: WorkerCommand, clock: Clock, guard: Guard, *, url: str, api_key: str
) -> ProcessLauncher:
    """A launcher of worker processes, which reach the emulator at `url` with `api_key`."""
    config = endpoint.config
    environment = WorkerEnvironment(
        endpoint_id=endpoint.id,
        url=url,
        api_key=api_key,
        extra=dict(config.worker_env),
        system_checks=config.system_checks,
    )
    return ProcessLauncher(
        command, environment, Gateway(endpoint), clock, guard, cold_start_ms=config.cold_start_ms
    )


def project_of(config: EndpointConfig) -> Path | None:
    """The folder of a handler and of what it imports from its project; None when it has none."""
    if not isinstance(config.handler, str | Path):
        return None
    place, _ = parts_of(config.handler)
    return Path(place).resolve().parent if place.endswith(".py") else Path.cwd()


def take_up_changes(launcher: Launcher, config: EndpointConfig, changed: Iterable[Path]) -> None:
    """Have the workers that are started from now on run the code as it is now.

    :raises HandlerError: it cannot be run; workers go on as they were.
    """
    if isinstance(launcher, ProcessLauncher):
        if launcher.command.python == sys.executable:
            for path in changed:
                check_syntax(path)
        check_command(launcher.command)
        return
    folder = project_of(config)
    if folder is not None:
        forget_project(folder)
        launcher.replace_handler(_workplaces(config.handler))
