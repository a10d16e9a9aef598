"""Workers in this process: the fastest way to run a handler, and the only one that cannot be killed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from emulator.workers.handler import HandlerKind
from emulator.workers.inline_worker import InlineWorker, Surroundings
from emulator.workers.loop_worker import LoopWorker
from emulator.workers.stub_worker import StubWorker
from emulator.workers.thread_worker import ThreadWorker

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from emulator.clock.clock import Clock
    from emulator.core.gateway import Gateway
    from emulator.workers.handler import Handler
    from emulator.workers.workplaces import Workplaces

_IN_THREADS = frozenset({HandlerKind.SYNC, HandlerKind.GENERATOR})


class InlineLauncher:
    """Starts and ends the inline workers of one endpoint."""

    def __init__(self, workplaces: Workplaces, gateway: Gateway, clock: Clock, *, cold_start_ms: int) -> None:
        self._workplaces = workplaces
        self._surroundings = Surroundings(
            handler=workplaces.handler, gateway=gateway, clock=clock, spawn=self._spawn
        )
        self._gateway = gateway
        self._cold_start_ms = cold_start_ms
        self._workers: dict[str, InlineWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def handler(self) -> Handler:
        """What its workers run."""
        return self._workplaces.handler

    def replace_handler(self, workplaces: Workplaces) -> None:
        """Have the workers that are started from now on run another handler."""
        if self._is_closed:
            workplaces.close()
            return
        self._workplaces.close()
        self._workplaces = workplaces
        self._surroundings = replace(self._surroundings, handler=workplaces.handler)

    def start(self, worker_id: str) -> None:
        """Begin a worker's cold start."""
        worker = self._workers[worker_id] = self._new_worker(worker_id)
        worker.start(self._cold_start_ms)

    def _new_worker(self, worker_id: str) -> InlineWorker:
        if self.handler.stubs is not None:
            return StubWorker(worker_id, self._surroundings)
        if self.handler.kind in _IN_THREADS:
            return ThreadWorker(worker_id, self._surroundings, self._workplaces.take())
        return LoopWorker(worker_id, self._surroundings)

    def stop(self, worker_id: str) -> None:
        """End a worker that holds no job."""
        if worker := self._workers.pop(worker_id, None):
            worker.end()

    def takes_real_time(self, worker_id: str) -> bool:
        """No: what it does is an activity on the clock."""
        return False

    def park(self, worker_id: str) -> None:
        """It waits, which takes next to nothing."""

    def unpark(self, worker_id: str) -> None:
        """It has been waiting."""

    def crash(self, worker_id: str, reason: str) -> None:
        """Have a worker die: what it runs is left to itself."""
        self.stop(worker_id)
        self._gateway.crashed(worker_id, reason)

    def kill(self, worker_id: str) -> bool:
        """End a worker as far as that is possible in this process: what it runs is left to itself."""
        self.stop(worker_id)
        return False

    async def close(self, patience_s: float) -> int:
        """End all workers; returns how many async ones were still running after `patience_s` real seconds."""
        for worker_id in list(self._workers):
            self.stop(worker_id)
        self._is_closed = True
        self._workplaces.close()
        if not self._tasks:
            return 0
        _, running = await asyncio.wait(self._tasks, timeout=patience_s)
        return len(running)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
