"""How the log is written: for a person at a terminal, or for a program."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from enum import StrEnum

from emulator.cli.log_writer import LogWriter
from emulator.cli.terminal_text import one_entry, short_ids

log = logging.getLogger("emulator")

_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
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


class _TextFormatter(logging.Formatter):
    """`12:00:01.204 WARNING message`. On a terminal coloured, and short, so that one sees what handlers have
    printed.
    """

    def __init__(self) -> None:
        self._is_short = sys.stderr.isatty()
        self._coloured = self._is_short and "NO_COLOR" not in os.environ
        # Where a colour says how grave it is, no word need.
        super().__init__("%(asctime)s %(message)s" if self._coloured else _LAYOUT, datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        line = one_entry(super().format(record))
        if self._is_short:
            line = short_ids(_WORKER_OF_JOB.sub("", line, count=1))
        colour = _COLOURS.get(record.levelno) if self._coloured else None
        return f"{colour}{line}{_RESET}" if colour else line


class _JSONFormatter(logging.Formatter):
    """One JSON object a line; keys that have no value are left out."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **getattr(record, "fields", {}),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps({key: value for key, value in fields.items() if value is not None}, default=str)
