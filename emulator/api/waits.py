"""Calls that wait for something: each ends with its client, and all of them when the emulator stops."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.types import Receive


class Waits:
    """What is being waited for on behalf of clients."""

    def __init__(self) -> None:
        #: One for each; a dict, so that one of thousands can leave at once.
        self._released: dict[asyncio.Future[None], None] = {}

    async def until(
        self,
        waiting: Coroutine[Any, Any, Any],
        *,
        timeout_ms: int | None = None,
        receive: Receive | None = None,
    ) -> None:
        """Wait for something, and no longer than `timeout_ms` real ms, nor than the client is there whose
        messages `receive` gives, nor than the emulator serves.
        """
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        tasks = [loop.create_task(waiting)]
        if receive is not None:
            tasks.append(loop.create_task(_gone(receive)))
        for task in tasks:
            task.add_done_callback(lambda _: _set(over))
        self._released[over] = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                    await over
        finally:
            self._released.pop(over, None)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not tasks[0].cancelled():
            tasks[0].result()

    def release(self) -> None:
        """The emulator stops: end all that there are."""
        released, self._released = self._released, {}
        for each in released:
            _set(each)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
