"""Workers that wait for a job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from emulator.errors import WorkerGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.clock.clock import Clock
    from emulator.core.job import Job
    from emulator.core.worker import Worker


class Taker:
    """One waiting take: who waits, and for how many jobs at most."""

    __slots__ = ("future", "limit", "worker")

    def __init__(self, worker: Worker, limit: int) -> None:
        self.worker = worker
        self.limit = limit
        self.future: asyncio.Future[list[Job]] = asyncio.get_running_loop().create_future()


class Takers:
    """The waiting takes of an endpoint. The one that came last is served first, so that spare
    workers stay without a job and reach their idle timeout.
    """

    def __init__(self, clock: Clock, hand_back: Callable[[list[Job]], None]) -> None:
        self._clock = clock
        self._hand_back = hand_back
        self._waiting: dict[Taker, None] = {}
        #: Those of paused workers: they wait and are given nothing.
        self._paused: dict[Taker, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def has(self, worker: Worker) -> bool:
        """Whether the worker waits for a job, be it in vain."""
        return any(taker.worker is worker for taker in (*self._waiting, *self._paused))

    def pop(self) -> Taker:
        """The taker to serve next; the caller gives it jobs or puts it back."""
        taker, _ = self._waiting.popitem()
        return taker

    def put_back(self, taker: Taker) -> None:
        """Let a taker wait on."""
        self._waiting[taker] = None

    def pause(self, taker: Taker) -> None:
        """Let a taker wait in vain."""
        self._paused[taker] = None

    def hold(self, worker: Worker) -> None:
        """Let the takes of a worker wait in vain from now on."""
        for taker in self._of(worker):
            self._paused[taker] = None

    def unhold(self, worker: Worker) -> None:
        """Let the takes of a worker wait for jobs again."""
        for taker in self._of(worker):
            self._waiting[taker] = None

    def dismiss(self, worker: Worker) -> None:
        """End the waits of a worker that is going away."""
        for taker in self._of(worker):
            if not taker.future.done():
                taker.future.set_exception(WorkerGone())

    def release(self, worker: Worker) -> None:
        """End the waits of a worker that is given nothing for now; it may wait again."""
        for taker in self._of(worker):
            _give_up(taker.future)

    def release_another(self, worker_id: str | None) -> None:
        """End a wait of any worker but this one; it may wait again."""
        for taker in reversed(self._waiting):
            if taker.worker.id != worker_id:
                _give_up(taker.future)
                return

    async def wait(self, worker: Worker, limit: int, hold_ms: int | None) -> list[Job]:
        """Wait for jobs, up to `hold_ms` (None: as long as it takes); empty when none came.

        A caller that is cancelled just as jobs were given to it loses none: they go back to the queue.

        :raises WorkerGone: the worker is going away.
        """
        taker = Taker(worker, limit)
        if worker.paused:
            self._paused[taker] = None
        else:
            self._waiting[taker] = None
        timer = None
        if hold_ms is not None:
            timer = self._clock.call_later(hold_ms, "job-take", _give_up, taker.future)
        try:
            return await taker.future
        except asyncio.CancelledError:
            if taker.future.done() and not taker.future.cancelled() and taker.future.exception() is None:
                self._hand_back(taker.future.result())
            raise
        finally:
            self._clock.cancel(timer)
            self._waiting.pop(taker, None)
            self._paused.pop(taker, None)

    def _of(self, worker: Worker) -> list[Taker]:
        """Take out the takers of a worker."""
        found = [taker for taker in (*self._waiting, *self._paused) if taker.worker is worker]
        for taker in found:
            self._waiting.pop(taker, None)
            self._paused.pop(taker, None)
        return found


def _give_up(future: asyncio.Future[list[Job]]) -> None:
    if not future.done():
        future.set_result([])
