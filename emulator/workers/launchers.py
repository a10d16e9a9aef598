"""Which launcher starts an endpoint's workers, and how it takes up changed code."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from emulator.core.config import EndpointConfig, WorkerKind
from emulator.core.gateway import Gateway
from emulator.workers.cluster.launcher import ClusterLauncher
from emulator.workers.command import WorkerCommand
from emulator.workers.containers.launcher import ContainerLauncher
from emulator.workers.environment import WireVariables, WorkerEnvironment
from emulator.workers.handler import Handler, HandlerError
from emulator.workers.handler_thread import HandlerThread
from emulator.workers.imported_files import imported_files
from emulator.workers.inline import InlineLauncher
from emulator.workers.loading import forget_project, load_handler, looks_async, parts_of
from emulator.workers.mock_worker import mock_worker
from emulator.workers.off_loop import loaded_in_time, off_loop
from emulator.workers.preflight import check_command, check_files, check_syntax
from emulator.workers.process import ProcessLauncher
from emulator.workers.project import project_of, working_folder
from emulator.workers.workplaces import Workplaces

if TYPE_CHECKING:
    from emulator.clock.clock import Clock
    from emulator.core.endpoint import Endpoint
    from emulator.scenario.stubs import Stubs
    from emulator.workers.cluster.cluster import Cluster
    from emulator.workers.containers.engine import Engine, Image
    from emulator.workers.guard import Guard
    from emulator.workers.worker_secrets import WorkerSecrets

Launcher: TypeAlias = InlineLauncher | ProcessLauncher | ContainerLauncher | ClusterLauncher
#: The kinds whose workers are processes, here or elsewhere.
_OF_PROCESSES = (WorkerKind.PROCESS, WorkerKind.RAY)


def worker_kind(config: EndpointConfig) -> WorkerKind:
    """Who really runs an endpoint's jobs: the built-in mock worker needs no process of its own."""
    if config.handler is None and not config.command and config.worker_kind in _OF_PROCESSES:
        return WorkerKind.INLINE
    return config.worker_kind


async def inline_launcher(endpoint: Endpoint, stubs: Stubs) -> InlineLauncher:
    """A launcher of workers in this process; `stubs` are what the mock worker answers by.

    :raises HandlerError: the handler cannot be loaded in time, or wants a working folder of its own.
    """
    source = endpoint.config.handler
    if source is None:
        workplaces = Workplaces(mock_worker(endpoint.clock, stubs, endpoint.config.worker_args))
    else:
        _check_folder(endpoint.config)
        workplaces = Workplaces(source) if isinstance(source, Handler) else await _workplaces(source)
    cold_start_ms = endpoint.config.cold_start_ms
    return InlineLauncher(workplaces, Gateway(endpoint), endpoint.clock, cold_start_ms=cold_start_ms)


async def _workplaces(source: object) -> Workplaces:
    """The handler, loaded in the thread in which it is to run: the emulator's, or its first worker's.

    :raises HandlerError: it cannot be loaded.
    """
    if not isinstance(source, str | Path):
        return Workplaces(load_handler(source))
    name = str(source)
    if await off_loop(name, partial(looks_async, source)):
        return Workplaces(await off_loop(name, partial(load_handler, source)))
    place, function = parts_of(source)
    thread = HandlerThread("runpod-worker-1")
    try:
        handler = await loaded_in_time(name, thread.load(partial(load_handler, source)))
    except BaseException:
        thread.close()
        raise
    if not place.endswith(".py"):
        # A module is there once in a process.
        return Workplaces(handler, thread=thread)
    return Workplaces(handler, partial(load_handler, _from_anywhere(place, function)), thread)


def _from_anywhere(place: str, function: str) -> str:
    """How to name a file once the current folder may be another one."""
    return f"{Path(place).absolute()}{':' if function else ''}{function}"


def process_launcher(
    endpoint: Endpoint,
    command: WorkerCommand,
    clock: Clock,
    guard: Guard,
    wire: WireVariables,
) -> ProcessLauncher:
    """A launcher of worker processes, which reach the emulator by the variables in `wire`."""
    environment = WorkerEnvironment(
        wire=wire,
        path=command.path,
        folder=command.folder,
        state_folder=guard.folder_of,
    )
    cold_start_ms = endpoint.config.cold_start_ms
    return ProcessLauncher(command, environment, Gateway(endpoint), clock, guard, cold_start_ms=cold_start_ms)


def container_launcher(
    endpoint: Endpoint, engine: Engine, image: Image, wire: WireVariables
) -> ContainerLauncher:
    """A launcher of containers, which reach the emulator by the variables in `wire`."""
    return ContainerLauncher(engine, image, endpoint.config, wire, Gateway(endpoint), endpoint.clock)


def cluster_launcher(
    endpoint: Endpoint, cluster: Cluster, command: WorkerCommand, wire: WireVariables
) -> ClusterLauncher:
    """A launcher of workers on a cluster, which reach the emulator by the variables in `wire`."""
    return ClusterLauncher(cluster, command, endpoint.config, wire, Gateway(endpoint), endpoint.clock)


def wire_variables(
    endpoint: Endpoint, url: str, api_key: str, worker_secrets: WorkerSecrets
) -> WireVariables:
    """What makes the SDK a worker of an endpoint, which reaches the emulator at `url`."""
    return WireVariables(
        endpoint_id=endpoint.id,
        url=url,
        api_key=api_key,
        extra=dict(endpoint.config.worker_env),
        system_checks=endpoint.config.system_checks,
        secret_of=worker_secrets.of,
    )


def _check_folder(config: EndpointConfig) -> None:
    """Refuse inline workers a folder of their own: a process has but one.

    :raises HandlerError: see above.
    """
    folder = working_folder(config)
    if config.workdir is not None and not folder.samefile(Path.cwd()):
        raise HandlerError(
            f"workdir is {str(config.workdir)!r}, and inline workers run in the emulator's own folder,"
            f" {Path.cwd()}: use worker_kind 'process', or start the emulator there"
        )


async def take_up_changes(launcher: Launcher, config: EndpointConfig) -> None:
    """Have the workers that are started from now on run the code as it is now.

    :raises HandlerError: it cannot be run. Inline workers go on running what was loaded; a process that is
        started would fail.
    """
    if isinstance(launcher, ProcessLauncher | ClusterLauncher):
        command = launcher.command
        await off_loop(command.name, partial(_check_imported, command))
        await (check_command if isinstance(launcher, ProcessLauncher) else check_files)(command)
        return
    project = project_of(config)
    if project is not None and isinstance(launcher, InlineLauncher):
        forget_project(project.folder)
        launcher.replace_handler(await _workplaces(config.handler))


def _check_imported(command: WorkerCommand) -> None:
    """Refuse what workers would import and is not Python.

    :raises HandlerError: see above.
    """
    if command.file is not None and command.python == sys.executable:
        # A file that is half written and that nobody imports is no reason to start nothing.
        for path in imported_files(command.file, command.import_folders):
            check_syntax(path)
