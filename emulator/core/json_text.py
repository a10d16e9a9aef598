"""JSON text as it goes on the wire, and a plain sentence for what JSON cannot express."""

from __future__ import annotations

import json
import math

from emulator.core.errors import EmulatorError

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
        raise NotJSON(_why_not(value, name, set()) or f"{name} cannot be written as JSON: {error}") from error
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate: legal in JSON as an escape, not as UTF-8.
        return _escaped(value).encode()


def _why_not(value: object, path: str, parents: set[int]) -> str | None:
    if len(parents) > 100:
        return f"{path[:80]}… is nested too deeply for JSON"
    if value is None or isinstance(value, str | bool | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {value}, which JSON cannot express"
    if id(value) in parents:
        return f"{path} contains itself, which JSON cannot express"
    parents = parents | {id(value)}
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int | float | bool | None):
                return f"{path} has a key of type {type(key).__name__}, which JSON cannot express"
            if why := _why_not(item, f"{path}[{key!r}]", parents):
                return why
        return None
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if why := _why_not(item, f"{path}[{index}]", parents):
                return why
        return None
    kind = type(value).__name__
    return f"{path} is of type {kind}, which JSON cannot express: return text, numbers, lists or dicts"
