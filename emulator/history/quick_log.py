"""A short way to the log for the lines that every job has.

A record of `logging` is made for any handler that there may be, and costs more than what it tells of. Where
the only handler is one that takes lines as they are, it gets them without one.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where all handlers are that the command line sets.
_ROOM = logging.getLogger("emulator")


class LineHandler(logging.Handler):
    """A handler that takes a line without a record of it."""

    @abstractmethod
    def take(self, level: int, message: str, fields: Callable[[], dict[str, Any]]) -> None:
        """Write a line; `fields` gives what is beside the message, for a program that reads it."""


def quick_log(
    log: logging.Logger, level: int, message: str, fields: Callable[[], dict[str, Any]] = dict
) -> None:
    """Write a line to a logger of the emulator's, which is enabled for the level."""
    handlers = _ROOM.handlers
    if (
        len(handlers) == 1
        and isinstance(handlers[0], LineHandler)
        and not (log.handlers and log is not _ROOM)
    ):
        handlers[0].take(level, message, fields)
    else:
        log.log(level, "%s", message, extra={"fields": fields()})
