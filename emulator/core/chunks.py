"""How large a chunk of a stream may be, and how a larger one is split (wire.md 4)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from emulator.core.json_text import encode

#: Larger string chunks are split.
CHUNK_MAX_BYTES = 1_000_000


def is_text(chunk_json: bytes) -> bool:
    """Whether the chunk is a string: no other is split."""
    return chunk_json.startswith(b'"')


def pieces_of(chunk_json: bytes) -> Iterator[bytes]:
    """The chunk, or if it is a string too large for one, its parts (wire.md 4)."""
    if len(chunk_json) <= CHUNK_MAX_BYTES or not is_text(chunk_json):
        yield chunk_json
        return
    text: str = json.loads(chunk_json)
    # A character is at most four bytes in UTF-8, six when it has to be escaped.
    step = CHUNK_MAX_BYTES // 6
    for start in range(0, len(text), step):
        yield encode(text[start : start + step], "chunk")
