"""Who starts the workers of each endpoint: a launcher, made of what the endpoint is to run."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from emulator.clock.slices import in_slices
from emulator.core.config import WorkerKind
from emulator.errors import EmulatorError
from emulator.workers.cluster.cluster import Cluster
from emulator.workers.cluster.launcher import ClusterLauncher
from emulator.workers.command import WorkerCommand
from emulator.workers.containers.engine import Engine
from emulator.workers.containers.labels import prune
from emulator.workers.containers.launcher import ContainerLauncher
from emulator.workers.containers.reach import reach
from emulator.workers.containers.spec import check_folders
from emulator.workers.guard import Guard
from emulator.workers.handler import HandlerError
from emulator.workers.launchers import (
    cluster_launcher,
    container_launcher,
    inline_launcher,
    process_launcher,
    take_up_changes,
    wire_variables,
    worker_kind,
)
from emulator.workers.preflight import check_command, check_files
from emulator.workers.process import ProcessLauncher
from emulator.workers.start_failure import headline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import TypeAlias

    from emulator.core.endpoint import Endpoint
    from emulator.scenario.stubs import Stubs
    from emulator.workers.containers.engine import Image
    from emulator.workers.environment import WireVariables
    from emulator.workers.launchers import Launcher
    from emulator.workers.reach import Reach
    from emulator.workers.worker_secrets import WorkerSecrets

    #: Opens a door for workers, where the given function says unless a place was set; returns its URL.
    LetIn: TypeAlias = Callable[[Callable[[], Awaitable[Reach]]], Awaitable[str]]

log = logging.getLogger("emulator")

#: Real seconds that a handler which is being stopped gets at the end.
_HANDLER_PATIENCE_S = 1.0
#: Real seconds from SIGTERM to SIGKILL for worker processes at the end.
_PROCESS_PATIENCE_S = 0.5


class Staff:
    """The launchers of an emulator's endpoints; those of processes are there while it is served."""

    def __init__(
        self,
        api_key: str,
        worker_key: Callable[[], str],
        worker_secrets: WorkerSecrets,
        ray_address: str | None,
    ) -> None:
        self._api_key = api_key
        #: What opens nothing but the way of workers: other machines get no other.
        self._worker_key = worker_key
        self._worker_secrets = worker_secrets
        self._launchers: dict[Endpoint, Launcher] = {}
        self._commands: dict[Endpoint, WorkerCommand] = {}
        self._images: dict[Endpoint, Image] = {}
        self._engine = Engine()
        self._cluster = Cluster(ray_address)
        self._guard = Guard()
        self._is_closed = False

    async def prepare(self, endpoint: Endpoint, stubs: Stubs) -> None:
        """Load what an endpoint's workers are to run; `stubs` are what the built-in one answers by.

        :raises HandlerError: it cannot be loaded; nothing has changed.
        :raises EmulatorError: the emulator has been stopped meanwhile.
        """
        match worker_kind(endpoint.config):
            case WorkerKind.INLINE:
                launcher = await inline_launcher(endpoint, stubs)
                if self._is_closed:
                    await launcher.close(0)
                    raise EmulatorError("the emulator has been stopped")
                self._launchers[endpoint] = launcher
            case WorkerKind.PROCESS:
                command = WorkerCommand.of(endpoint.config)
                await check_command(command)
                self._commands[endpoint] = command
            case WorkerKind.RAY:
                command = WorkerCommand.of(endpoint.config)
                await check_files(command)
                self._commands[endpoint] = command

    async def fetch(self, endpoint: Endpoint) -> None:
        """Have there what an endpoint's workers run in: the image that they are containers of, which is
        pulled if need be, or the cluster that they are placed on.

        :raises EngineError: the image cannot be had, or there is no engine.
        :raises ClusterError: the cluster cannot be reached, or made.
        """
        config = endpoint.config
        if worker_kind(config) is WorkerKind.RAY:
            await self._cluster.connect()
        if config.image is None:
            return
        await self._engine.connect()
        if self._engine.host is None:
            check_folders(config.container)
        if left := await prune(self._engine):
            log.info("removed %d containers that an emulator had left behind", len(left))
        self._images[endpoint] = await self._engine.image(config.image, config.container.platform)

    async def open(self, endpoint: Endpoint, url: str | None, let_in: LetIn) -> None:
        """Let an endpoint's workers start; processes need the `url` at which the emulator is served, others a
        door that `let_in` opens for them.

        :raises EmulatorError: that cannot be opened.
        """
        if url is not None:
            command = self._commands.get(endpoint)
            if command is not None and worker_kind(endpoint.config) is WorkerKind.RAY:
                # A cluster of its own is on this machine's loopback, as processes are.
                at = url if self._cluster.is_own else await let_in(self._reach_of_cluster)
                wire = self._wire(endpoint, at, self._worker_key())
                self._launchers[endpoint] = cluster_launcher(endpoint, self._cluster, command, wire)
            elif command is not None:
                wire = self._wire(endpoint, url)
                self._launchers[endpoint] = process_launcher(
                    endpoint, command, endpoint.clock, self._guard, wire
                )
            if (image := self._images.get(endpoint)) is not None:
                find_way = partial(reach, self._engine, endpoint.config.container.network)
                wire = self._wire(endpoint, await let_in(find_way))
                self._launchers[endpoint] = container_launcher(endpoint, self._engine, image, wire)
        endpoint.open(self._launchers.get(endpoint))

    async def _reach_of_cluster(self) -> Reach:
        return self._cluster.reach()

    def _wire(self, endpoint: Endpoint, url: str, key: str | None = None) -> WireVariables:
        return wire_variables(endpoint, url, key or self._api_key, self._worker_secrets)

    async def reset(self, endpoint: Endpoint) -> dict[str, int]:
        """Forget an endpoint's jobs and restart its workers, while others are served."""
        jobs, workers = 0, len(endpoint.pool)
        async for _ in in_slices(endpoint.resetting(self._launchers.get(endpoint))):
            jobs += 1
        return {"jobs": jobs, "workers": workers}

    async def reload(self, endpoint: Endpoint) -> bool:
        """Have workers with the present code take over; see `Emulator.reload`.

        :raises HandlerError: the code cannot be loaded.
        """
        launcher = self._launchers.get(endpoint)
        if launcher is None:
            return False
        try:
            await take_up_changes(launcher, endpoint.config)
        except HandlerError as error:
            of_processes = isinstance(launcher, ProcessLauncher | ClusterLauncher)
            if of_processes and self._launchers.get(endpoint) is launcher:
                endpoint.hold(headline(str(error)))
            raise
        # It may have been taken away meanwhile.
        return self._launchers.get(endpoint) is launcher and endpoint.reload()

    async def reload_image(self, endpoint: Endpoint) -> bool:
        """Have workers of the image that its name points to now take over, if it is another; whether it is.

        :raises EngineError: there is none of that name any more, or the engine does not answer.
        """
        launcher = self._launchers.get(endpoint)
        if not isinstance(launcher, ContainerLauncher) or not await launcher.take_up_image():
            return False
        endpoint.reload()
        return True

    def worker_url(self, endpoint: Endpoint) -> str | None:
        """Where an endpoint's workers reach the emulator that are not on its loopback; None when they are."""
        launcher = self._launchers.get(endpoint)
        if isinstance(launcher, ClusterLauncher) and self._cluster.is_own:
            return None
        return launcher.url if isinstance(launcher, ContainerLauncher | ClusterLauncher) else None

    def describe(self, endpoint: Endpoint) -> str:
        """What the workers of an endpoint run, for a person; empty when it starts none."""
        if worker_kind(endpoint.config) is WorkerKind.PROCESS and (command := self._commands.get(endpoint)):
            elsewhere = "" if endpoint.config.workdir is None else f" in {command.folder}"
            return f"{command.name} ({command.kind}, {command.program}){elsewhere}"
        launcher = self._launchers.get(endpoint)
        if isinstance(launcher, ClusterLauncher):
            return f"{launcher.command.name} ({launcher.command.kind}) on {self._cluster}"
        if isinstance(launcher, ContainerLauncher):
            return str(launcher.image)
        if launcher is None or isinstance(launcher, ProcessLauncher):
            return ""
        return f"{launcher.handler.name} ({launcher.handler.kind.value})"

    def process_id(self, endpoint: Endpoint, worker_id: str) -> int | None:
        """The number of a worker's process, if it has one of its own."""
        launcher = self._launchers.get(endpoint)
        return launcher.process_id(worker_id) if isinstance(launcher, ProcessLauncher) else None

    async def dismiss(self, endpoint: Endpoint) -> None:
        """An endpoint is taken away: end what its workers run in."""
        launcher = self._launchers.pop(endpoint, None)
        self._commands.pop(endpoint, None)
        self._images.pop(endpoint, None)
        if launcher is not None:
            await launcher.close(_PROCESS_PATIENCE_S)

    async def close_processes(self, endpoints: Iterable[Endpoint]) -> None:
        """The emulator is served no more: end the workers of these endpoints."""
        closing = []
        for endpoint in endpoints:
            endpoint.close()
            if (launcher := self._launchers.pop(endpoint, None)) is not None:
                closing.append(launcher.close(_PROCESS_PATIENCE_S))
        await asyncio.gather(*closing)
        self._guard.close()

    async def close(self) -> None:
        """End all."""
        self._is_closed = True
        for endpoint, launcher in self._launchers.items():
            if left := await launcher.close(_HANDLER_PATIENCE_S):
                log.warning("%s: %d handlers did not stop and were left behind", endpoint.id, left)
        self._launchers.clear()
        await asyncio.gather(self._engine.close(), self._cluster.close())
