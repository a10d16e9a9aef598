"""How something that is waited for wakes those who wait, without anyone polling."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.clock.clock import Clock
    from emulator.clock.waiting import Waiting


class Wakeup:
    """Any number of waiters, woken together; a waiter gives up after a limit on the emulator's clock."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        #: In order of arrival; a dict, so that one of thousands can leave at once.
        self.waiters: dict[asyncio.Future[bool], None] = {}

    def notify(self) -> None:
        """Wake all who wait now."""
        if not self.waiters:
            return
        waiters, self.waiters = self.waiters, {}
        for future in waiters:
            if not future.done():
                future.set_result(True)

    async def wait(
        self, clock: Clock, limit_ms: int | None, kind: str, waiting: Waiting | None = None
    ) -> bool:
        """Wait for `notify`; False when `limit_ms` (None: never) passed first, or `waiting` was given up.

        `kind` names the wait among the timers.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if waiting is not None:
            waiting.future = future
        self.waiters[future] = None
        timer = None if limit_ms is None else clock.call_later(limit_ms, kind, _give_up, future)
        try:
            return await future
        finally:
            clock.cancel(timer)
            self.waiters.pop(future, None)


def _give_up(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
