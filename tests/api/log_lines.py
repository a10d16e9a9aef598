"""Waiting for something that shows in the log alone."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class LogLines(logging.Handler):
    """What the emulator has logged since, and a way to wait for more."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._changed = asyncio.Condition()
        self._loop = asyncio.get_running_loop()
        self._notifying: set[asyncio.Task[None]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._loop.call_soon_threadsafe(self._begin_to_notify)

    async def logged(self, text: str) -> None:
        """Return once there is a line with this text."""
        async with self._changed:
            await self._changed.wait_for(lambda: any(text in line for line in self.lines))

    def _begin_to_notify(self) -> None:
        task = self._loop.create_task(self._notify())
        self._notifying.add(task)
        task.add_done_callback(self._notifying.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@contextmanager
def log_lines() -> Iterator[LogLines]:
    """The lines of the emulator's log, from `info` up, while the body runs."""
    logger, lines = logging.getLogger("emulator"), LogLines()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(lines)
    try:
        yield lines
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
