"""Starts and ends workers that are containers.

They speak to the emulator over HTTP like any worker (`api/worker_protocol.py`), through a door that lets
workers alone in (`serving/workers_door.py`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from emulator.workers.containers.ending import why_ended, why_not_made
from emulator.workers.containers.engine import EngineError
from emulator.workers.containers.labels import labels_of
from emulator.workers.containers.spec import container_spec
from emulator.workers.containers.worker_container import WorkerContainer
from emulator.workers.outside import OutsideLauncher

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from emulator.clock.clock import Clock
    from emulator.core.config import EndpointConfig
    from emulator.core.gateway import Gateway
    from emulator.workers.containers.engine import Engine, Image
    from emulator.workers.environment import WireVariables
    from emulator.workers.worker_watch import WorkerWatch

_SHORT_ID = 12


class ContainerLauncher(OutsideLauncher[WorkerContainer]):
    """Starts and ends the containers of one endpoint's workers."""

    def __init__(
        self,
        engine: Engine,
        image: Image,
        config: EndpointConfig,
        variables: WireVariables,
        gateway: Gateway,
        clock: Clock,
    ) -> None:
        super().__init__(gateway, clock, cold_start_ms=config.cold_start_ms)
        #: What the workers that are started from now on are made of.
        self.image = image
        #: The URL at which its workers reach the emulator.
        self.url = variables.url
        self._engine = engine
        self._config = config
        self._variables = variables
        self._orders: set[asyncio.Task[None]] = set()
        self._cannot_pause = False

    async def take_up_image(self) -> bool:
        """Have workers that are started from now on be of what the image's name points to now; whether that
        is another image than before.

        :raises EngineError: there is none of that name any more, or the engine does not answer.
        """
        found = await self._engine.find_image(self.image.name)
        if found is None:
            raise EngineError(f"there is no image {self.image.name!r} any more: build it, or pull it")
        changed = found.id != self.image.id
        self.image = found
        return changed

    def _make(self, worker_id: str) -> WorkerContainer:
        return WorkerContainer(worker_id, self._engine, self._gateway.wrote)

    def park(self, worker_id: str) -> None:
        """Pause its container, as a parked worker is to take no CPU time."""
        if (worker := self._workers.get(worker_id)) is not None and not self._cannot_pause:
            self._see_to(self._pause(worker))

    def unpark(self, worker_id: str) -> None:
        """Let its container go on."""
        if (worker := self._workers.get(worker_id)) is not None:
            self._see_to(worker.unpause())

    def crash(self, worker_id: str, reason: str) -> None:
        """SIGKILL, from nowhere: the end of the container is noticed as any other."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.is_there:
            worker.crash_reason = reason
            self._see_to(worker.kill())

    async def close(self, patience_s: float) -> int:
        """End all workers, after `patience_s` real seconds by force; returns how many are left (none)."""
        self._let_go_of_all(patience_s)
        while self._lives or self._orders:
            await asyncio.wait([*self._lives, *self._orders])
        return 0

    def _end(self, worker: WorkerContainer, patience_s: float) -> None:
        if worker.cold:
            self._do_not_start(worker)
        self._see_to(worker.end(patience_s))

    def _see_to(self, order: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(order)
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)

    async def _pause(self, worker: WorkerContainer) -> None:
        try:
            await worker.pause()
        except EngineError as error:
            self._cannot_pause = True
            self._gateway.warn(worker.id, f"parked workers are not paused, as the engine cannot: {error}")

    async def _live(self, worker: WorkerContainer) -> str:
        image = self.image
        spec = container_spec(
            self._config.container,
            image_id=image.id,
            command=(*self._config.command, *self._config.worker_args),
            hostname=worker.id[:_SHORT_ID],
            variables=self._variables.of_container(worker.id),
            labels=labels_of(worker.id, self._variables.endpoint_id),
        )
        watches: list[WorkerWatch] = []
        try:
            ended = await worker.live(spec, lambda: watches.append(self._watch_started(worker)))
        except EngineError as error:
            reason = why_not_made(str(error), image, self._engine.platform)
        else:
            reason = worker.crash_reason
            if ended is not None and not reason:
                reason = why_ended(
                    ended,
                    image,
                    worker.last_lines,
                    was_up=self._gateway.is_up(worker.id),
                    memory=self._config.container.memory,
                    engine_platform=self._engine.platform,
                )
        for watch in watches:
            watch.stop()
        # Before another with its name is made.
        await worker.remove()
        return reason

    def _watch_started(self, worker: WorkerContainer) -> WorkerWatch:
        hint = f" Can it reach {self.url}, where jobs are?"
        return self._watch(worker, self._variables.init_timeout_s(), hint)
