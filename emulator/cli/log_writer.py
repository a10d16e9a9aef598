"""Writes the log in a thread of its own: nobody who logs waits for whoever reads it.

Standard error may be a pipe that is read slowly, or never; a write to it would then hold the event loop, and
with it every request.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque

from emulator.clock.real_time import real_seconds

#: Lines, and characters in all, that may wait to be written; of more the newest are dropped.
_LINES_MAX = 20_000
_CHARACTERS_MAX = 8 * 1024 * 1024
#: How much is written at a time.
_AT_A_TIME = 64 * 1024
#: Real seconds that what is left gets at the end.
_LAST_PATIENCE_S = 1.0


class LogWriter(logging.Handler):
    """Writes lines to a file descriptor, in order; what there is no room for is counted, and told of."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file
        self._lines: deque[str] = deque()
        self._characters = 0
        self._dropped = 0
        #: Lines that have been taken to be written, and are not yet.
        self._is_writing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line written."""
        try:
            line = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="log", daemon=True)
                self._thread.start()
            if len(self._lines) >= _LINES_MAX or self._characters + len(line) > _CHARACTERS_MAX:
                self._dropped += 1
                return
            if self._dropped:
                self._tell_dropped(record)
            was_empty = not self._lines
            self._lines.append(line)
            self._characters += len(line)
            if was_empty and not self._is_writing:
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written, for as long as a slow reader may need, not for one that never reads."""
        until_s = real_seconds() + _LAST_PATIENCE_S
        with self._changed:
            while self._thread is not None and (self._lines or self._is_writing):
                left_s = until_s - real_seconds()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return

    def _tell_dropped(self, record: logging.LogRecord) -> None:
        told = logging.makeLogRecord(
            {
                "name": record.name,
                "levelno": logging.WARNING,
                "levelname": "WARNING",
                "created": record.created,
                "msecs": record.msecs,
                "msg": "%d lines of the log were dropped here: nobody read them as fast as they came",
                "args": (self._dropped,),
            }
        )
        self._dropped = 0
        self._lines.append(self.format(told) + "\n")

    def _start_anew(self) -> None:
        """In a forked child there is no thread, and what waits is the parent's to write."""
        self._changed = threading.Condition()
        self._thread = None
        self._lines.clear()
        self._characters = 0
        self._is_writing = False

    # In the thread

    def _write(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                while not self._lines:
                    self._changed.wait()
                lines, size = [], 0
                while self._lines and size < _AT_A_TIME:
                    lines.append(self._lines.popleft())
                    size += len(lines[-1])
                self._characters -= size
                self._is_writing = True
            data = memoryview("".join(lines).encode("utf-8", "replace"))
            while data:
                try:
                    data = data[os.write(self._file, data) :]
                except BlockingIOError:
                    # Somebody else has made the file one that does not wait.
                    threading.Event().wait(0.01)
                except OSError:
                    # Nobody can read it any more.
                    break
