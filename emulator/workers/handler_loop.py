"""The event loop of a handler's thread: it knows whether it has anything to do."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVarTuple

from emulator.clock.real_time import real_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

Ts = TypeVarTuple("Ts")

if sys.platform == "win32":
    _LoopOfPlatform = asyncio.ProactorEventLoop
else:
    _LoopOfPlatform = asyncio.SelectorEventLoop


class HandlerLoop(_LoopOfPlatform):
    """A loop of the standard library's that notices its first use.

    Until a handler has made a task, or had something called, the loop need not turn between jobs. That is a
    tenth of what a quick job costs.
    """

    def __init__(self, on_first_use: Callable[[], object]) -> None:
        super().__init__()
        self._on_first_use = on_first_use
        self.is_used = False

    def time(self) -> float:
        """Real time: its timers go on though a test has stopped the time of its own code."""
        return real_seconds()

    def forget_use(self) -> None:
        """What has used it so far was not the handler."""
        self.is_used = False

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Every new task comes by here too."""
        self._notice_use()
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """So does what an executor has done."""
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        self._notice_use()
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """And everything that is to come later."""
        self._notice_use()
        return super().call_at(when, callback, *args, context=context)

    def add_reader(self, fd: Any, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Of files and sockets."""
        self._notice_use()
        super().add_reader(fd, callback, *args)

    def add_writer(self, fd: Any, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Of files and sockets."""
        self._notice_use()
        super().add_writer(fd, callback, *args)

    def _notice_use(self) -> None:
        if not self.is_used:
            self.is_used = True
            self._on_first_use()
