"""What a worker process prints, cut into lines, and kept from drowning everything else."""

from __future__ import annotations

import json
from collections import deque

from emulator.clock.real_time import real_seconds
from emulator.core.events import WorkerLine

#: What is kept of a second's output of one stream; the rest is read, counted and dropped.
_BYTES_PER_SECOND = 512 * 1024
_LINES_PER_SECOND = 2_000
#: A line that is longer than this is cut; the SDK cuts its own at 4 KiB.
_LINE_MAX_BYTES = 16 * 1024
_LAST_LINES = 20


class WorkerOutput:
    """One stream of one worker process."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        #: The newest lines, to explain the worker's end with.
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._unfinished = b""
        self._second_began_s = real_seconds()
        self._bytes_left = _BYTES_PER_SECOND
        self._lines_left = _LINES_PER_SECOND
        self._dropped = 0

    def feed(self, data: bytes) -> list[WorkerLine]:
        """The lines that are complete with these bytes, as far as they are kept."""
        told = self._begin_second() if real_seconds() - self._second_began_s >= 1 else []
        if not self._lines_left or not self._bytes_left:
            self._dropped += len(data)
            return told
        kept = data[: self._bytes_left]
        self._bytes_left -= len(kept)
        *texts, unfinished = (self._unfinished + kept).split(b"\n", self._lines_left)
        self._lines_left -= len(texts)
        told += map(self._line, texts)
        if not self._lines_left or not self._bytes_left:
            self._dropped += len(unfinished) + len(data) - len(kept)
            unfinished = b""
            told.append(WorkerLine("[… the rest of this second's output is not shown]", self._stream))
        elif len(unfinished) > _LINE_MAX_BYTES:
            told.append(self._line(unfinished))
            unfinished = b""
        self._unfinished = unfinished
        return told

    def close(self) -> list[WorkerLine]:
        """What is left at the end of the stream."""
        left = [self._line(self._unfinished)] if self._unfinished else []
        self._unfinished = b""
        return self._begin_second() + left

    def _begin_second(self) -> list[WorkerLine]:
        dropped, self._dropped = self._dropped, 0
        self._second_began_s = real_seconds()
        self._bytes_left = _BYTES_PER_SECOND
        self._lines_left = _LINES_PER_SECOND
        if not dropped:
            return []
        return [WorkerLine(f"[… {dropped} bytes were not shown]", self._stream)]

    def _line(self, data: bytes) -> WorkerLine:
        text = data[:_LINE_MAX_BYTES].decode("utf-8", "replace").rstrip("\r")
        if len(data) > _LINE_MAX_BYTES:
            text += f" [… {len(data) - _LINE_MAX_BYTES} bytes more]"
        line = _sdk_line(text, self._stream) or WorkerLine(text, self._stream)
        self.last_lines.append(line.text)
        return line


def _sdk_line(text: str, stream: str) -> WorkerLine | None:
    """The line as the SDK means it, if it is one of its log lines (wire.md 7)."""
    if not text.startswith('{"requestId"'):
        return None
    try:
        fields = json.loads(text)
        return WorkerLine(str(fields["message"]), stream, fields["requestId"], str(fields["level"]))
    except (ValueError, KeyError, TypeError):
        return None
