"""Writes the log in a thread of its own: nobody who logs waits for whoever reads it.

Standard error may be a pipe that is read slowly, or never; a write to it would then hold the event loop, and
with it every request. The thread writes the lines of some hundredths of a second at once: to wake it for each
would cost more than the job that is told of.
"""

from __future__ import annotations

import logging
import os
import threading
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

from emulator.clock.real_time import real_seconds, wall_clock_ms
from emulator.history.quick_log import LineHandler

if TYPE_CHECKING:
    from collections.abc import Callable

#: Lines, and characters in all, that may wait to be written; of more the newest are dropped.
_LINES_MAX = 20_000
_CHARACTERS_MAX = 8 * 1024 * 1024
#: How much is written at a time.
_AT_A_TIME = 64 * 1024
#: Real seconds from one write to the next.
_GATHERED_S = 0.01
_NOTHING: dict[str, Any] = {}
#: Real seconds that what is left gets at the end.
_LAST_PATIENCE_S = 1.0


#: A line that is not laid out yet: when it was told (ms since the epoch, on a clock on the wall), its level,
#: the message, and what is beside it where that is wanted.
Line: TypeAlias = tuple[int, int, str, dict[str, Any]]


class LineFormatter(logging.Formatter):
    """A formatter that needs no record."""

    #: Whether it writes what is beside a message.
    wants_fields = False

    @abstractmethod
    def line(self, line: Line) -> str:
        """A line as it is written, without its end."""

    def lines(self, lines: list[Line]) -> str:
        """Several, with an end between two of them."""
        return "\n".join(map(self.line, lines))


class LogWriter(LineHandler):
    """Writes lines to a file descriptor, in order; what there is no room for is counted, and told of."""

    _thread: threading.Thread | None
    _lines: deque[Line | str]
    _characters: int
    _dropped: int
    _is_writing: bool
    _is_asleep: bool
    _flushing: int

    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file
        self._start_anew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._put(line, len(line))

    def take(self, level: int, message: str, fields: Callable[[], dict[str, Any]]) -> None:
        """Have a line written. It is laid out in the thread, with those that come together with it."""
        beside = fields() if getattr(self.formatter, "wants_fields", False) else _NOTHING
        self._put((wall_clock_ms(), level, message, beside), len(message))

    def flush(self) -> None:
        """Wait until all is written, for as long as a slow reader may need, not for one that never reads."""
        until_s = real_seconds() + _LAST_PATIENCE_S
        with self._lock:
            self._flushing += 1
            self._came.notify()
            while self._thread is not None and (self._lines or self._is_writing):
                left_s = until_s - real_seconds()
                if left_s <= 0 or not self._written.wait(left_s):
                    break
            self._flushing -= 1

    def _put(self, line: Line | str, size: int) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="log", daemon=True)
                self._thread.start()
            if len(self._lines) >= _LINES_MAX or self._characters + size > _CHARACTERS_MAX:
                self._dropped += 1
                return
            if self._dropped:
                self._tell_dropped()
            self._lines.append(line)
            self._characters += size
            if self._is_asleep:
                self._is_asleep = False
                self._came.notify()

    def _tell_dropped(self) -> None:
        told = f"{self._dropped} lines of the log were dropped here: nobody read them as fast as they came"
        self._dropped = 0
        # Whatever the room is: what it counts cannot be counted again.
        self._lines.append((wall_clock_ms(), logging.WARNING, told, _NOTHING))
        self._characters += len(told)

    def _start_anew(self) -> None:
        """Also in a forked child: there is no thread in it, and what waits is the parent's to write."""
        # One that a signal's handler, which may log too, can take a second time.
        self._lock = threading.RLock()
        #: Somebody has put in a line while the thread slept, or waits for it.
        self._came = threading.Condition(self._lock)
        self._written = threading.Condition(self._lock)
        self._thread = None
        self._lines = deque()
        self._characters = 0
        self._dropped = 0
        #: Lines have been taken to be written, and are not yet.
        self._is_writing = False
        #: The thread waits for the next line.
        self._is_asleep = False
        #: How many wait until all is written.
        self._flushing = 0

    # In the thread

    def _write(self) -> None:
        while True:
            with self._lock:
                self._is_writing = False
                self._written.notify_all()
                if not self._flushing and self._characters < _AT_A_TIME:
                    # More lines gather meanwhile.
                    self._came.wait(_GATHERED_S)
                while not self._lines:
                    self._is_asleep = True
                    self._came.wait()
                self._is_asleep = False
                lines = self._next_lines()
                self._is_writing = True
            data = memoryview(self._laid_out(lines).encode("utf-8", "replace"))
            while data:
                try:
                    data = data[os.write(self._file, data) :]
                except BlockingIOError:
                    # Somebody else has made the file one that does not wait.
                    threading.Event().wait(0.01)
                except OSError:
                    # Nobody can read it any more.
                    break

    def _next_lines(self) -> list[Line | str]:
        """As many as are written at a time; mostly all."""
        if self._characters <= _AT_A_TIME:
            lines = list(self._lines)
            self._lines.clear()
            self._characters = 0
            return lines
        lines, size = [], 0
        while self._lines and size < _AT_A_TIME:
            line = self._lines.popleft()
            lines.append(line)
            size += len(line if isinstance(line, str) else line[2])
        self._characters -= size
        return lines

    def _laid_out(self, lines: list[Line | str]) -> str:
        parts: list[str] = []
        new: list[Line] = []
        for line in lines:
            if isinstance(line, tuple):
                new.append(line)
                continue
            if new:
                parts.append(self._text_of(new))
                new = []
            parts.append(line)
        if new:
            parts.append(self._text_of(new))
        return "\n".join([*parts, ""])

    def _text_of(self, lines: list[Line]) -> str:
        layout = self.formatter
        if not isinstance(layout, LineFormatter):
            return "\n".join(message for _, _, message, _ in lines)
        try:
            return layout.lines(lines)
        except Exception as error:
            # The thread must go on with the lines that come.
            return f"{len(lines)} lines of the log could not be laid out: {type(error).__name__}"
