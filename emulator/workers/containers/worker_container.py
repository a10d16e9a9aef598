"""One worker's container: made, started, listened to, held still, ended and removed."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from emulator.workers.containers.ending import Ended
from emulator.workers.containers.engine import EngineError
from emulator.workers.containers.labels import remove
from emulator.workers.outside import OutsideWorker
from emulator.workers.worker_output import WorkerOutput

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiodocker.containers import DockerContainer

    from emulator.core.events import WorkerLine
    from emulator.workers.containers.engine import Engine

#: Real seconds for an engine to end a container that it was told to kill.
_KILL_ANSWER_S = 30.0


class WorkerContainer(OutsideWorker):
    """A worker's container, from its cold start until nothing is left of it."""

    def __init__(
        self, worker_id: str, engine: Engine, wrote: Callable[[str, list[WorkerLine]], None]
    ) -> None:
        super().__init__(worker_id)
        #: Its end has been asked for here: it is no crash.
        self.ending = False
        self._engine = engine
        self._wrote = wrote
        self._outputs = {1: WorkerOutput("stdout"), 2: WorkerOutput("stderr")}
        self._container: DockerContainer | None = None
        self._paused = False
        #: One order after the other: to be held still, to go on, to end.
        self._order = asyncio.Lock()

    @property
    def is_there(self) -> bool:
        """Whether the engine has made it."""
        return self._container is not None

    @property
    def last_lines(self) -> list[str]:
        """The last lines of its standard error, or of its output when there are none."""
        return list(self._outputs[2].last_lines or self._outputs[1].last_lines)

    async def live(self, spec: dict[str, Any], on_start: Callable[[], None]) -> Ended | None:
        """Make it, and read what it writes until it ends; None when it was to end before it was started.

        :raises EngineError: it cannot be made or started, or the engine has gone.
        """
        with self._engine.speaking():
            self._container = await self._engine.docker.containers.create(
                spec, name=f"runpod-worker-{self.id}"
            )
            if self._is_over():
                return None
            # Before it starts, so that nothing is missed.
            async with self._container.attach(stdout=True, stderr=True, stdin=False) as stream:
                await self._container.start()
                on_start()
                if self._is_over():
                    await self._container.kill(signal="SIGKILL")
                while (message := await stream.read_out()) is not None:
                    self._hear(message.stream, message.data)
            await self._container.wait()
            for output in self._outputs.values():
                self._wrote(self.id, output.close())
            return Ended.of((await self._container.show())["State"])

    def _is_over(self) -> bool:
        """Whether its end has been asked for meanwhile."""
        return self.ending

    def _hear(self, stream: int, data: bytes) -> None:
        lines = self._outputs[stream].feed(data)
        self.note(lines)
        self._wrote(self.id, lines)

    async def end(self, patience_s: float) -> None:
        """Its image's signal to stop, and after `patience_s` real seconds SIGKILL."""
        self.ending = True
        async with self._order:
            await self._unpause()
            if self._container is not None:
                with suppress(EngineError), self._engine.speaking():
                    async with asyncio.timeout(patience_s + _KILL_ANSWER_S):
                        await self._container.stop(t=math.ceil(patience_s))

    async def kill(self) -> None:
        """SIGKILL, at once."""
        async with self._order:
            await self._unpause()
            if self._container is not None:
                with suppress(EngineError), self._engine.speaking():
                    await self._container.kill(signal="SIGKILL")

    async def pause(self) -> None:
        """Hold it still: its processes take no CPU time.

        :raises EngineError: the engine cannot.
        """
        async with self._order:
            if self._container is not None and not self.ending and not self._paused:
                with self._engine.speaking():
                    await self._container.pause()
                self._paused = True

    async def unpause(self) -> None:
        """Let it go on."""
        async with self._order:
            await self._unpause()

    async def _unpause(self) -> None:
        if self._paused and self._container is not None:
            with suppress(EngineError), self._engine.speaking():
                await self._container.unpause()
            self._paused = False

    async def remove(self) -> None:
        """Leave nothing of it."""
        if self._container is not None:
            with suppress(EngineError), self._engine.speaking():
                await remove(self._container)
