"""JSON text as it goes on the wire, and a plain sentence for what JSON cannot express."""

from __future__ import annotations

import json

from emulator.core.json_faults import why_not_json
from emulator.errors import EmulatorError

_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_escaped = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode


class NotJSON(EmulatorError):
    """The value cannot be written as JSON."""


def encode(value: object, name: str = "output") -> bytes:
    """`value` as compact UTF-8 JSON; `name` is what the error message calls it.

    :raises NotJSON: part of it has no JSON form; the message says which part and why.
    """
    try:
        text = _compact(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJSON(why_not_json(value, name) or f"{name} cannot be written as JSON: {error}") from error
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate: legal in JSON as an escape, not as UTF-8.
        return _escaped(value).encode()
