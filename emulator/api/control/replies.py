"""Replies with values that users have made up. Not by way of models: these refuse what is nested deeply, and
characters that UTF-8 lacks, both of which a job may have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.responses import Response

from emulator.core.json_text import NotJSON, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_TOO_DEEP = encode("nested too deeply to be shown")


def reply(json_text: bytes) -> Response:
    """An answer with this body."""
    return Response(json_text, media_type="application/json")


def json_of(read: Callable[[], object]) -> bytes:
    """The JSON text of the value that `read` gives, or a sentence where it is nested too deeply."""
    try:
        return encode(read())
    except (NotJSON, RecursionError):
        return _TOO_DEEP


def object_of(fields: Mapping[str, object], **parts: bytes) -> bytes:
    """The JSON text of an object: `fields`, and `parts` that are JSON text already."""
    written = [encode(fields)[1:-1]] if fields else []
    return (
        b"{"
        + b",".join(written + [b'"%s":%s' % (name.encode(), part) for name, part in parts.items()])
        + b"}"
    )


def list_of(items: Iterable[bytes]) -> bytes:
    """The JSON text of a list."""
    return b"[" + b",".join(items) + b"]"
