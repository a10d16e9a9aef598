"""The text of a stream of server-sent events, made of a job's chunks (wire.md 4)."""

from __future__ import annotations

import json
import re
from typing import Any

from emulator.core.json_text import encode

#: A comment: clients pass over it.
KEEP_ALIVE = b": keep-alive\n\n"
_DONE = b"data: [DONE]\n\n"
_SAYS_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]\s*(?:[\r\n]|$)")
#: What is remembered of what was sent: enough for an event that is cut in two.
_TAIL = 32


class EventText:
    """What has been sent of one stream, and what comes next.

    A worker's strings are its own event text, cut anywhere: they are passed on byte for byte. Anything else
    it yields is an event of its own.
    """

    __slots__ = ("_tail", "begun", "done")

    def __init__(self) -> None:
        #: Something has been sent.
        self.begun = False
        #: The worker itself has said that it is done.
        self.done = False
        self._tail = b""

    @property
    def between_events(self) -> bool:
        """Whether an event could begin here."""
        return not self._tail or self._tail.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))

    def of_chunk(self, chunk_json: bytes) -> bytes:
        """The text for a chunk, which is JSON text; of a list each item is one."""
        value = json.loads(chunk_json)
        if isinstance(value, list):
            return b"".join(self._sent(self._text(item)) for item in value)
        return self._sent(self._text(value))

    def of_error(self, body: bytes) -> bytes:
        """The text for an error (OpenAI's form, as JSON text), which is the last event."""
        return self._sent(self._border() + b"data: " + body + b"\n\n")

    def end(self) -> bytes:
        """What is still to be said when all chunks have been sent."""
        return b"" if self.done else self._sent(self._border() + _DONE)

    def _text(self, value: Any) -> bytes:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        return self._border() + b"data: " + encode(value) + b"\n\n"

    def _border(self) -> bytes:
        return b"" if self.between_events else b"\n\n"

    def _sent(self, text: bytes) -> bytes:
        if text:
            self.begun = True
            self.done = self.done or _SAYS_DONE.search(self._tail + text) is not None
            self._tail = (self._tail + text[-_TAIL:])[-_TAIL:]
        return text
