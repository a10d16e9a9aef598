"""How the log is written: for a person at a terminal, or for a program."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from emulator.cli.log_writer import LineFormatter, LogWriter
from emulator.cli.terminal_text import one_entry, short_ids
from emulator.clock.real_time import wall_clock_ms

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("emulator")

_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
_LEVELS = {level: f"{logging.getLevelName(level):<7}" for level in (10, 20, 30, 40, 50)}
_TIME = "%H:%M:%S"
_LAYOUT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s"
#: Before what a worker has written about a job: on a terminal the job alone is told.
_WORKER_OF_JOB = re.compile(r"worker \S+ (?=job \S+ │ )")
_RESET = "\x1b[0m"


class LogFormat(StrEnum):
    """How a line of the log is written."""

    TEXT = "text"
    """For a person at a terminal."""
    JSON = "json"
    """For a program: one JSON object a line."""


def configure_logging(log_format: LogFormat, level: str, handler: logging.Handler | None = None) -> None:
    """Write the emulator's log to standard error, or to what `handler` writes to; for the command line, never
    for library use.
    """
    handler = logging.StreamHandler(sys.stderr) if handler is None else handler
    handler.setFormatter(_JSONFormatter() if log_format is LogFormat.JSON else _TextFormatter())
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(level.upper())
    # Of uvicorn's own messages only its complaints are news.
    uvicorn_log = logging.getLogger("uvicorn")
    uvicorn_log.handlers[:] = [handler]
    uvicorn_log.propagate = False
    uvicorn_log.setLevel(logging.WARNING)


def flush_log() -> None:
    """Have all that was logged be written, before something else is, or the process ends."""
    for handler in log.handlers:
        handler.flush()


def log_of_server() -> logging.Handler:
    """Writes to standard error without ever holding the server up."""
    try:
        return LogWriter(sys.stderr.fileno())
    except (OSError, ValueError):
        # Somebody has put something in its place that is no file.
        return logging.StreamHandler(sys.stderr)


class _TextFormatter(LineFormatter):
    """`12:00:01.204 WARNING message`. On a terminal coloured, and short, so that one sees what handlers have
    printed.
    """

    def __init__(self) -> None:
        self._is_short = sys.stderr.isatty()
        self._coloured = self._is_short and "NO_COLOR" not in os.environ
        # Where a colour says how grave it is, no word need.
        super().__init__("%(asctime)s %(message)s" if self._coloured else _LAYOUT, datefmt=_TIME)
        self._second = -1
        self._time = ""

    def format(self, record: logging.LogRecord) -> str:
        return self._shown(record.levelno, super().format(record))

    def line(self, level: int, message: str, _fields: Callable[[], dict[str, Any]]) -> str:
        second, ms = divmod(wall_clock_ms(), 1000)
        if second != self._second:
            self._second, self._time = second, datetime.fromtimestamp(second).strftime(_TIME)
        if self._coloured:
            return self._shown(level, f"{self._time} {message}")
        line = f"{self._time}.{ms:03d} {_LEVELS[level]} {message}"
        return line if message.isprintable() and not self._is_short else self._shown(level, line)

    def _shown(self, level: int, text: str) -> str:
        line = one_entry(text)
        if self._is_short:
            line = short_ids(_WORKER_OF_JOB.sub("", line, count=1))
        colour = _COLOURS.get(level) if self._coloured else None
        return f"{colour}{line}{_RESET}" if colour else line


class _JSONFormatter(LineFormatter):
    """One JSON object a line; keys that have no value are left out."""

    def format(self, record: logging.LogRecord) -> str:
        message, fields = record.getMessage(), getattr(record, "fields", {})
        traceback = self.formatException(record.exc_info) if record.exc_info else None
        return self._object(record.created, record.levelname, message, fields, traceback)

    def line(self, level: int, message: str, fields: Callable[[], dict[str, Any]]) -> str:
        return self._object(wall_clock_ms() / 1000, logging.getLevelName(level), message, fields())

    def _object(
        self, at_s: float, level: str, message: str, fields: dict[str, Any], traceback: str | None = None
    ) -> str:
        told = {
            "ts": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds"),
            "level": level.lower(),
            **fields,
            "message": message,
            "traceback": traceback,
        }
        return json.dumps({key: value for key, value in told.items() if value is not None}, default=str)
