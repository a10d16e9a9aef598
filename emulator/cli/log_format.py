"""How the log is written: for a person at a terminal, or for a program."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum

log = logging.getLogger("emulator")

_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
_RESET = "\x1b[0m"


class LogFormat(StrEnum):
    """How a line of the log is written."""

    TEXT = "text"
    """For a person at a terminal."""
    JSON = "json"
    """For a program: one JSON object a line."""


def configure_logging(log_format: LogFormat, level: str) -> None:
    """Write the emulator's log to standard error; for the command line, never for library use."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSONFormatter() if log_format is LogFormat.JSON else _TextFormatter())
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(level.upper())
    # Of uvicorn's own messages only its complaints are news.
    uvicorn_log = logging.getLogger("uvicorn")
    uvicorn_log.handlers[:] = [handler]
    uvicorn_log.propagate = False
    uvicorn_log.setLevel(logging.WARNING)


class _TextFormatter(logging.Formatter):
    """`12:00:01.204 WARNING message`, coloured on a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
        self._coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
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
