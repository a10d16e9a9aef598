"""Where inline workers run a handler that is not async: each in a thread, with a copy of the handler there.

In production each worker is a process, with a copy of the handler's module. Here a thread is what can be had
of that. It outlives its worker, as loading may take long: the next worker finds the module as it was left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from emulator.workers.handler_thread import HandlerThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.workers.handler import Handler


class Workplace:
    """A thread and the handler that was loaded in it. One worker at a time has it."""

    def __init__(self, home: Workplaces, thread: HandlerThread, handler: Handler | None) -> None:
        self._home = home
        self.thread = thread
        self._handler = handler

    async def handler(self) -> Handler:
        """Its copy of the handler; loads it if need be.

        :raises HandlerError: it cannot be loaded.
        """
        if self._handler is None:
            self._handler = await asyncio.wrap_future(self.thread.load(self._home.load_copy))
        return self._handler

    def leave(self, *, usable: bool) -> None:
        """The worker goes; `usable` when the next may go on with what it leaves."""
        self.thread.on_death = None
        self._home.take_back(self, usable=usable and self._handler is not None)


class Workplaces:
    """As many as there have been workers at a time."""

    def __init__(
        self, handler: Handler, load: Callable[[], Handler] | None = None, thread: HandlerThread | None = None
    ) -> None:
        """`load` loads another copy of the handler; without it all have the same. `thread` is where `handler`
        was loaded, if it has a thread of its own.
        """
        self.handler = handler
        self._load = load
        self._is_open = True
        self._free = [] if thread is None else [Workplace(self, thread, handler)]
        self._made = len(self._free)

    def take(self) -> Workplace:
        """One that is free, or another."""
        while self._free:
            if not (workplace := self._free.pop()).thread.is_closed:
                return workplace
        self._made += 1
        thread = HandlerThread(f"runpod-worker-{self._made}")
        return Workplace(self, thread, self.handler if self._load is None else None)

    def take_back(self, workplace: Workplace, *, usable: bool) -> None:
        """A worker has left it."""
        if usable and self._is_open:
            self._free.append(workplace)
        else:
            workplace.thread.close()

    def load_copy(self) -> Handler:
        """Another copy of the handler, for the thread in which this is called.

        :raises HandlerError: it cannot be loaded.
        """
        assert self._load is not None
        return self._load()

    def close(self) -> None:
        """End the free ones, and each of the others once its worker leaves it."""
        self._is_open = False
        while self._free:
            self._free.pop().thread.close()
