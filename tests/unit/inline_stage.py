"""An endpoint whose workers run a handler in this process, on a frozen clock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from emulator.clock.clock import VirtualClock
from emulator.core.config import EndpointConfig
from emulator.core.endpoint import Endpoint
from emulator.core.events import JobMoved, Notice
from emulator.core.gateway import Gateway
from emulator.workers.handler import Handler
from emulator.workers.inline import InlineLauncher
from emulator.workers.workplaces import Workplaces
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from emulator.core.events import Event
    from emulator.core.job import Job


class InlineStage:
    """Submits jobs and waits for what becomes of them."""

    def __init__(self, handler: Handler, clock: VirtualClock, config: EndpointConfig) -> None:
        self.clock = clock
        self.events: list[Event] = []
        self.endpoint = Endpoint("ep", config, clock, lambda _, event: self.events.append(event))
        gateway = Gateway(self.endpoint)
        self.launcher = InlineLauncher(
            Workplaces(handler), gateway, clock, cold_start_ms=config.cold_start_ms
        )
        self.endpoint.open(self.launcher)

    def submit(self, input: object = "hello", **policy: object) -> Job:
        return self.endpoint.submit({"input": input, "policy": policy})

    async def ended(self, job: Job) -> Job:
        """The job, once it has ended without any emulated time passing."""
        with anyio.fail_after(PATIENCE_S):
            await self.endpoint.wait(job, 86_400_000)
        return job

    async def run(self, input: object = "hello", **policy: object) -> Job:
        return await self.ended(self.submit(input, **policy))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, in real time, for what a thread brings about."""
        with anyio.fail_after(PATIENCE_S):
            while not condition():
                await self.clock.settle()

    def given_back(self) -> list[Job]:
        """The jobs that went from a worker back to the queue, in its order."""
        moves = [event for event in self.events if isinstance(event, JobMoved)]
        back = {move.job.id for move in moves if move.before == "IN_PROGRESS" and not move.job.terminal}
        return [job for job in self.endpoint.queue if job.id in back]

    def notices(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Notice)]

    def workers(self) -> dict[str, int]:
        """How many workers there are in each state that any is in."""
        counts = self.endpoint.health()["workers"]
        return {state: count for state, count in counts.items() if count and state != "ready"}


@asynccontextmanager
async def inline_stage(
    function: object,
    *,
    start_config: dict[str, object] | None = None,
    clock: VirtualClock | None = None,
    **config: object,
) -> AsyncIterator[InlineStage]:
    """`function` is a handler; `start_config` is what its script gave to `runpod.serverless.start`."""
    if not isinstance(function, Handler):
        function = Handler.of(function, "the handler", start_config or {})
    stage = InlineStage(
        function, VirtualClock(start_ms=0) if clock is None else clock, EndpointConfig(**config)
    )
    try:
        yield stage
    finally:
        stage.endpoint.close()
        await stage.launcher.close(1.0)
