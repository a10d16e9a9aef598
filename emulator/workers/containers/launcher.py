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
from emulator.workers.worker_watch import WorkerWatch

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from emulator.clock.clock import Clock
    from emulator.core.config import EndpointConfig
    from emulator.core.gateway import Gateway
    from emulator.workers.containers.engine import Engine, Image
    from emulator.workers.environment import WireVariables

#: Real seconds from the signal to stop to SIGKILL for a worker that has nothing to do, and for one that does
#: not let go.
_STOP_PATIENCE_S = 5.0
_KILL_PATIENCE_S = 2.0
_SHORT_ID = 12


class ContainerLauncher:
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
        #: What the workers that are started from now on are made of.
        self.image = image
        #: The URL at which its workers reach the emulator.
        self.url = variables.url
        self._engine = engine
        self._config = config
        self._variables = variables
        self._gateway = gateway
        self._clock = clock
        self._containers: dict[str, WorkerContainer] = {}
        self._lives: dict[asyncio.Task[None], WorkerContainer] = {}
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

    def start(self, worker_id: str) -> None:
        """Begin a worker's cold start."""
        worker = self._containers[worker_id] = WorkerContainer(worker_id, self._engine, self._gateway.wrote)
        task = asyncio.get_running_loop().create_task(self._live(worker))
        self._lives[task] = worker
        task.add_done_callback(self._lives.pop)

    def stop(self, worker_id: str) -> None:
        """End a worker that holds no job."""
        self._end(worker_id, _STOP_PATIENCE_S)

    def takes_real_time(self, worker_id: str) -> bool:
        """Whether it has a container, or is about to: its cold start is over."""
        worker = self._containers.get(worker_id)
        return worker is not None and not worker.cold

    def park(self, worker_id: str) -> None:
        """Pause its container, as a parked worker is to take no CPU time."""
        if (worker := self._containers.get(worker_id)) is not None and not self._cannot_pause:
            self._see_to(self._pause(worker))

    def unpark(self, worker_id: str) -> None:
        """Let its container go on."""
        if (worker := self._containers.get(worker_id)) is not None:
            self._see_to(worker.unpause())

    def crash(self, worker_id: str, reason: str) -> None:
        """SIGKILL, from nowhere: the end of the container is noticed as any other."""
        worker = self._containers.get(worker_id)
        if worker is not None and worker.is_there:
            worker.crash_reason = reason
            self._see_to(worker.kill())

    def kill(self, worker_id: str) -> bool:
        """End a worker that does not let go of a job; that takes a while."""
        self._end(worker_id, _KILL_PATIENCE_S)
        return True

    async def close(self, patience_s: float) -> int:
        """End all workers, after `patience_s` real seconds by force; returns how many are left (none)."""
        for worker_id in list(self._containers):
            self._end(worker_id, patience_s)
        while self._lives or self._orders:
            await asyncio.wait([*self._lives, *self._orders])
        return 0

    def _end(self, worker_id: str, patience_s: float) -> None:
        worker = self._containers.pop(worker_id, None)
        if worker is None:
            return
        if worker.cold:
            for task in [task for task, of in self._lives.items() if of is worker]:
                task.cancel()
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

    async def _live(self, worker: WorkerContainer) -> None:
        if self._config.cold_start_ms:
            worker.cold = True
            await self._clock.sleep(self._config.cold_start_ms, "cold start", worker.id)
            worker.cold = False
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
            ended = await worker.live(spec, lambda: watches.append(self._watch(worker)))
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
        if self._containers.get(worker.id) is worker:
            del self._containers[worker.id]
            self._gateway.crashed(worker.id, reason)
        else:
            self._gateway.ended(worker.id)

    def _watch(self, worker: WorkerContainer) -> WorkerWatch:
        return WorkerWatch(
            worker.id,
            self._gateway,
            init_timeout_s=self._variables.init_timeout_s() / max(1.0, self._clock.rate),
            last_line=lambda: worker.last_line,
            end=lambda reason: self.crash(worker.id, f"{reason} Can it reach {self.url}, where jobs are?"),
        )
