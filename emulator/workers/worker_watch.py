"""Notices a worker process that is there and takes no jobs.

In real time, as a process is real: a clock that is moved makes no start overdue.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.core.gateway import Gateway

#: Real seconds after which a person is told that a worker has not asked for a job yet.
_SLOW_START_S = 10.0
#: However fast the clock runs: what an interpreter and the SDK may take to load.
_SHORTEST_INIT_TIMEOUT_S = 6.0
#: Real seconds between two looks at a worker that is up: one that neither holds a job nor has asked for one
#: from one look to the next is stuck. The SDK asks again as soon as it has been answered.
_LOOKS_EVERY_S = 60.0


class WorkerWatch:
    """Watches one worker's process while it runs.

    `end(reason)` is called for a process that has not asked for a job within `init_timeout_s` real seconds of
    its start, or that asks for no more; `last_line()` is what it has written last.
    """

    def __init__(
        self,
        worker_id: str,
        gateway: Gateway,
        *,
        init_timeout_s: float,
        last_line: Callable[[], str],
        end: Callable[[str], None],
    ) -> None:
        self._id = worker_id
        self._gateway = gateway
        self._last_line = last_line
        self._end = end
        self._takes_seen = -1
        loop = asyncio.get_running_loop()
        self._handles = [
            loop.call_later(_SLOW_START_S, self._tell_slow_start),
            loop.call_later(max(init_timeout_s, _SHORTEST_INIT_TIMEOUT_S), self._on_init_timeout),
            loop.call_later(_LOOKS_EVERY_S, self._look),
        ]

    def stop(self) -> None:
        """Its process has ended."""
        for handle in self._handles:
            handle.cancel()

    def _tell_slow_start(self) -> None:
        if not self._gateway.is_starting(self._id):
            return
        line = self._last_line()
        wrote = f"it wrote last: {line}" if line else "it has written nothing"
        self._gateway.warn(
            self._id,
            f"it has not asked for a job within {_SLOW_START_S:g} s of its start, so jobs wait; {wrote} (is"
            " it loading a model, waiting for something that does not come, or told to be a dev server by"
            " --rp_serve_api or --test_input?)",
        )

    def _on_init_timeout(self) -> None:
        if self._gateway.is_starting(self._id):
            line = self._last_line()
            self._end(
                "it is unhealthy: it has not asked for a job within the limit for a start (production's 7"
                " minutes; RUNPOD_INIT_TIMEOUT, in s, moves it); has it reached runpod.serverless.start?"
                + (f" It wrote last: {line}" if line else "")
            )

    def _look(self) -> None:
        takes = self._gateway.takes_of_idle(self._id)
        if takes is not None and takes == self._takes_seen:
            self._end(f"it is up and has not asked for a job for {_LOOKS_EVERY_S:g} s")
            return
        self._takes_seen = -1 if takes is None else takes
        self._handles[-1] = asyncio.get_running_loop().call_later(_LOOKS_EVERY_S, self._look)
