"""Workers that do nothing by themselves: the test says when they take, finish, report in or crash."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from emulator.clock.clock import VirtualClock
from emulator.core.config import EndpointConfig
from emulator.core.endpoint import Endpoint
from emulator.core.events import Notice
from emulator.core.gateway import Gateway
from emulator.core.result import JobResult
from emulator.scenario.faults import Faults
from emulator.scenario.scenario import Scenario

if TYPE_CHECKING:
    from emulator.core.events import Event
    from emulator.core.job import Job


class ManualLauncher:
    """Starts nothing; remembers which workers the endpoint believes to be alive."""

    def __init__(self) -> None:
        #: Started and not ended, in order of their (last) start.
        self.alive: list[str] = []
        self.stopped: list[str] = []
        self.killed: list[str] = []
        #: To crash: the test says when the gateway is told.
        self.crashing: list[str] = []
        self.starts = 0

    def start(self, worker_id: str) -> None:
        self.starts += 1
        if worker_id in self.alive:
            self.alive.remove(worker_id)
        self.alive.append(worker_id)

    def stop(self, worker_id: str) -> None:
        self.alive.remove(worker_id)
        self.stopped.append(worker_id)

    def takes_real_time(self, worker_id: str) -> bool:
        return False

    def park(self, worker_id: str) -> None:
        """It waits, which takes next to nothing."""

    def unpark(self, worker_id: str) -> None:
        """It has been waiting."""

    def crash(self, worker_id: str, reason: str) -> None:
        self.crashing.append(worker_id)

    def kill(self, worker_id: str) -> bool:
        self.alive.remove(worker_id)
        self.killed.append(worker_id)
        return False


class Stage:
    """An endpoint on a frozen clock, its workers under the test's control, its events written down."""

    def __init__(self, **config: object) -> None:
        self.clock = VirtualClock(start_ms=1_000_000)
        self.events: list[Event] = []
        self.config = EndpointConfig(**config)
        self.endpoint = Endpoint("ep", self.config, self.clock, lambda _, event: self.events.append(event))
        self.faults = Faults()
        self.scenario = Scenario(self.endpoint, self.faults, self.events.append)
        self.gateway = Gateway(self.endpoint)
        self.launcher = ManualLauncher()
        self.endpoint.open(self.launcher)

    def submit(self, input: object = "hello", **policy: object) -> Job:
        return self.endpoint.submit({"input": input, "policy": policy})

    async def take(self, worker_id: str, **options: object) -> list[Job]:
        """What is there for the worker at once."""
        task = asyncio.get_running_loop().create_task(self.gateway.take(worker_id, hold_ms=0, **options))
        await self.clock.settle()
        return await task

    async def take_one(self, worker_id: str | None = None) -> Job:
        """The next job, for a worker (the one that was started last if none is named)."""
        [job] = await self.take(self.launcher.alive[-1] if worker_id is None else worker_id)
        return job

    def finish(self, job: Job, **result: object) -> bool:
        return self.gateway.finish(
            job.worker_id or "", job.id, JobResult(**(result or {"output_json": b"1"}))
        )

    def notices(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Notice)]

    def workers(self) -> dict[str, int]:
        """How many workers there are in each state that any is in."""
        counts = self.endpoint.health()["workers"]
        return {state: count for state, count in counts.items() if count and state != "ready"}
