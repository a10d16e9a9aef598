"""Workers that are outside of this process, wherever that is: what is the same of their lives."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from emulator.workers.worker_watch import WorkerWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.clock.clock import Clock
    from emulator.core.events import WorkerLine
    from emulator.core.gateway import Gateway

#: Real seconds from the signal to stop to SIGKILL for a worker that has nothing to do, and for one that does
#: not let go.
_STOP_PATIENCE_S = 5.0
_KILL_PATIENCE_S = 2.0


class OutsideWorker:
    """One worker, from its cold start until nothing is left of it."""

    def __init__(self, worker_id: str) -> None:
        self.id = worker_id
        #: It waits for the end of its cold start.
        self.cold = False
        #: Why it was made to crash, if it was.
        self.crash_reason = ""
        #: What it has written last.
        self.last_line = ""

    def note(self, lines: Sequence[WorkerLine]) -> None:
        """Keep the last of what it has written."""
        self.last_line = next((line.text for line in reversed(lines) if line.text.strip()), self.last_line)


_W = TypeVar("_W", bound=OutsideWorker)


class OutsideLauncher(ABC, Generic[_W]):
    """Starts and ends the workers of one endpoint (`core.worker.WorkerLauncher`).

    A launcher of some kind says how a worker is made, what its life is, and how it is told to end.
    """

    def __init__(self, gateway: Gateway, clock: Clock, *, cold_start_ms: int) -> None:
        self._gateway = gateway
        self._clock = clock
        self._cold_start_ms = cold_start_ms
        #: Those that are wanted: one that is told to end is none of them any more.
        self._workers: dict[str, _W] = {}
        #: The lives that are not over, of others too.
        self._lives: dict[asyncio.Task[None], _W] = {}

    @abstractmethod
    def _make(self, worker_id: str) -> _W:
        """A worker that is about to start."""

    @abstractmethod
    async def _live(self, worker: _W) -> str:
        """A worker's life, once its cold start is over; returns why it has ended, if nobody wanted it to."""

    @abstractmethod
    def _end(self, worker: _W, patience_s: float) -> None:
        """Tell a worker to end, after `patience_s` real seconds by force."""

    @abstractmethod
    def crash(self, worker_id: str, reason: str) -> None:
        """SIGKILL, from nowhere: its end is noticed as any other."""

    def start(self, worker_id: str) -> None:
        """Begin a worker's cold start."""
        worker = self._workers[worker_id] = self._make(worker_id)
        worker.cold = self._cold_start_ms > 0
        task = asyncio.get_running_loop().create_task(self._live_from_cold(worker))
        self._lives[task] = worker
        task.add_done_callback(self._lives.pop)

    def stop(self, worker_id: str) -> None:
        """End a worker that holds no job."""
        self._let_go(worker_id, _STOP_PATIENCE_S)

    def kill(self, worker_id: str) -> bool:
        """End a worker that does not let go of a job, with all it has started; that may take a while."""
        self._let_go(worker_id, _KILL_PATIENCE_S)
        return True

    def takes_real_time(self, worker_id: str) -> bool:
        """Whether it is there, or is about to be: its cold start is over."""
        worker = self._workers.get(worker_id)
        return worker is not None and not worker.cold

    def park(self, worker_id: str) -> None:
        """It waits, which takes next to nothing."""

    def unpark(self, worker_id: str) -> None:
        """It has been waiting."""

    def _let_go_of_all(self, patience_s: float) -> None:
        for worker_id in list(self._workers):
            self._let_go(worker_id, patience_s)

    def _let_go(self, worker_id: str, patience_s: float) -> None:
        if (worker := self._workers.pop(worker_id, None)) is not None:
            self._end(worker, patience_s)

    def _do_not_start(self, worker: _W) -> None:
        """There is nothing of it yet, and nothing is to come."""
        for task in [task for task, of in self._lives.items() if of is worker]:
            task.cancel()

    async def _live_from_cold(self, worker: _W) -> None:
        if worker.cold:
            await self._clock.sleep(self._cold_start_ms, "cold start", worker.id)
            worker.cold = False
        reason = await self._live(worker)
        if self._workers.get(worker.id) is worker:
            del self._workers[worker.id]
            self._gateway.crashed(worker.id, reason)
        else:
            self._gateway.ended(worker.id)

    def _watch(self, worker: _W, init_timeout_s: float, hint: str = "") -> WorkerWatch:
        """Watch a worker that has been started; `hint` is added to why it is ended for taking no jobs."""
        return WorkerWatch(
            worker.id,
            self._gateway,
            init_timeout_s=init_timeout_s / max(1.0, self._clock.rate),
            last_line=lambda: worker.last_line,
            end=lambda reason: self.crash(worker.id, reason + hint),
        )
