"""What in a value JSON cannot express, in a sentence.

Workers run this file by its path, with the user's own interpreter: it imports the standard library alone
and keeps to what Python 3.8 understands.
"""

from __future__ import annotations

import math


def why_not_json(value: object, name: str) -> str | None:
    """Which part of `value`, called `name`, has no JSON form, and why; None when all of it has one."""
    return _fault(value, name, set())


def _fault(value: object, path: str, parents: set[int]) -> str | None:
    if len(parents) > 100:
        return f"{path[:80]}… is nested too deeply for JSON"
    if value is None or isinstance(value, (str, bool, int)):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {value}, which JSON cannot express"
    if id(value) in parents:
        return f"{path} contains itself, which JSON cannot express"
    parents = parents | {id(value)}
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, int, float, bool, type(None))):
                return f"{path} has a key of type {type(key).__name__}, which JSON cannot express"
            if why := _fault(item, f"{path}[{key!r}]", parents):
                return why
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if why := _fault(item, f"{path}[{index}]", parents):
                return why
        return None
    kind = type(value).__name__
    if kind in ("generator", "async_generator"):
        return (
            f"{path} is of type {kind}, which JSON cannot express: to stream, the handler itself must be a"
            " function that yields. The SDK does not see a generator in a lambda, or in an object whose"
            " __call__ yields: production loses such a job"
        )
    return f"{path} is of type {kind}, which JSON cannot express: return text, numbers, lists or dicts"
