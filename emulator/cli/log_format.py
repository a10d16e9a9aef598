"""How the log is written: for a person at a terminal, or for a program."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from emulator.cli.log_writer import Line, LineFormatter, LogWriter
from emulator.cli.terminal_text import one_entry, short_ids

log = logging.getLogger("emulator")

_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
_LEVELS = {level: f"{logging.getLevelName(level):<7}" for level in (10, 20, 30, 40, 50)}
_TIME = "%H:%M:%S"
_LAYOUT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s"
#: Before what a worker has written about a job: on a terminal the job alone is told.
_WORKER_OF_JOB = re.compile(r"worker \S+ (?=job \S+ │ )")
_RESET = "\x1b[0m"
#: Of the emulator, whose loggers are below its own.
PARTS = ("api", "clock", "core", "driver", "pull", "state", "webhooks", "workers")


class _Heard(logging.Logger):
    """A logger of the emulator's: what a handler in this process does to all loggers does not silence it."""

    def __setattr__(self, name: str, value: object) -> None:
        # `logging.config.dictConfig` disables every logger that there is.
        if name != "disabled":
            super().__setattr__(name, value)


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
    for each in (log, *(logging.getLogger(f"emulator.{part}") for part in PARTS)):
        each.__class__ = _Heard
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

    def line(self, line: Line) -> str:
        at_ms, level, message, _ = line
        return self._shown(level, self._head(at_ms, level) + message)

    def lines(self, lines: list[Line]) -> str:
        # Whether there is anything in them that must not be written as it is, can be asked of all together.
        texts: list[str] = []
        of_ms, of_level, head = -1, -1, ""
        for at_ms, level, message, _ in lines:
            if at_ms != of_ms or level != of_level:
                of_ms, of_level, head = at_ms, level, self._head(at_ms, level)
            texts.append(head + message)
        text = "\n".join(texts)
        is_plain = text.count("\n") == len(texts) - 1 and text.replace("\n", "").isprintable()
        return text if is_plain and not self._is_short else super().lines(lines)

    def _head(self, at_ms: int, level: int) -> str:
        second, ms = divmod(at_ms, 1000)
        if second != self._second:
            self._second, self._time = second, datetime.fromtimestamp(second).strftime(_TIME)
        return f"{self._time} " if self._coloured else f"{self._time}.{ms:03d} {_LEVELS[level]} "

    def _shown(self, level: int, text: str) -> str:
        line = one_entry(text)
        if self._is_short:
            line = short_ids(_WORKER_OF_JOB.sub("", line, count=1))
        colour = _COLOURS.get(level) if self._coloured else None
        return f"{colour}{line}{_RESET}" if colour else line


class _JSONFormatter(LineFormatter):
    """One JSON object a line; keys that have no value are left out."""

    wants_fields = True

    def format(self, record: logging.LogRecord) -> str:
        message, fields = record.getMessage(), getattr(record, "fields", {})
        traceback = self.formatException(record.exc_info) if record.exc_info else None
        return self._object(record.created, record.levelname, message, fields, traceback)

    def line(self, line: Line) -> str:
        at_ms, level, message, fields = line
        return self._object(at_ms / 1000, logging.getLevelName(level), message, fields)

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
