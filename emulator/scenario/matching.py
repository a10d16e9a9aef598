"""Whether a value is what was expected, and if not, where it differs.

An expectation is a JSON value. An object expects each of its keys (others may be there), a list each of its
elements in order, anything else an equal value. A key that begins with `$` is a JSON path (RFC 9535) from
where it stands: `{"$.items[0].name": "cat"}`; one of the values it finds must match. `{"$regex": "^a"}`
expects a string in which the pattern is found. In Python a compiled pattern and a function that returns a
truth value may stand anywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from emulator.errors import ConfigError
from emulator.scenario.patterns import TooSlow, compiled, found_in

#: A difference, to be written only for those who read it: a value may be large.
_Sentence: TypeAlias = Callable[[], str]
#: How a pattern's text says what else it was compiled with.
_FLAGS = {"a": re.A, "i": re.I, "m": re.M, "s": re.S, "x": re.X}
#: Of a value that is shown in a message.
_SHOWN_MAX = 120
#: How deep an expectation may be nested.
_DEPTH_MAX = 100


def matches(expected: object, actual: object) -> bool:
    """Whether `actual` is as expected."""
    try:
        return next(_differing(expected, actual, ""), None) is None
    except Exception:
        return False


def differences(expected: object, actual: object, place: str = "input") -> Iterator[str]:
    """A sentence for each place at which `actual` is not as expected; `place` is what it is called.

    Nothing that is expected raises here, be it an object of a test's or nested too deeply: it does not match.
    """
    try:
        for sentence in _differing(expected, actual, place):
            yield sentence()
    except TooSlow as error:
        yield f"{place}: cannot be compared with what is expected: {error}"
    except Exception as error:
        yield f"{place}: cannot be compared with what is expected: {type(error).__name__}"


def _differing(expected: object, actual: object, place: str) -> Iterator[_Sentence]:
    if isinstance(expected, Mapping):
        yield from _differing_object(expected, actual, place)
    elif isinstance(expected, list | tuple):
        yield from _differing_list(expected, actual, place)
    elif isinstance(expected, re.Pattern):
        if not isinstance(actual, str) or not found_in(expected, actual):
            yield lambda: f"{place}: expected a match of {expected.pattern!r}, got {_shown(actual)}"
    elif callable(expected):
        name = getattr(expected, "__name__", repr(expected))
        try:
            if not expected(actual):
                yield lambda: f"{place}: {name} does not accept {_shown(actual)}"
        except Exception as error:
            # It looks for what is not there.
            raised = f"{type(error).__name__}: {error}"
            yield lambda: f"{place}: {name} raises {raised} for {_shown(actual)}"
    elif not _equal(expected, actual):
        yield lambda: f"{place}: expected {_shown(expected)}, got {_shown(actual)}"


def checked(expected: object, place: str) -> object:
    """An expectation that came as JSON, with its patterns compiled.

    :raises ConfigError: a pattern or a path in it is not one, or it is nested too deeply; the message says
        where.
    """
    if is_deep(expected):
        raise ConfigError(f"{place}: nested more than {_DEPTH_MAX} deep")
    return _compiled(expected, place)


def _compiled(expected: object, place: str) -> object:
    if isinstance(expected, Mapping):
        if expected.keys() == {"$regex"}:
            return _pattern(expected["$regex"], place)
        for key in expected:
            if key == "$regex":
                raise ConfigError(
                    f"{place}: $regex stands alone: what else is expected goes into its pattern"
                )
            if _is_path(key):
                _check_path(key, place)
        return {key: _compiled(value, f"{place}.{key}") for key, value in expected.items()}
    if isinstance(expected, float) and not math.isfinite(expected):
        raise ConfigError(f"{place}: is {expected}, which JSON cannot express")
    if isinstance(expected, list):
        return [_compiled(value, f"{place}[{number}]") for number, value in enumerate(expected)]
    return expected


def is_deep(value: object, levels: int = _DEPTH_MAX) -> bool:
    """Whether a JSON value is nested more than so many levels deep."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return bool(parts) and (levels == 0 or any(is_deep(part, levels - 1) for part in parts))


def as_json(expected: object) -> Any:
    """The expectation as JSON.

    :raises ConfigError: it has a function in it, which JSON cannot carry.
    """
    if isinstance(expected, re.Pattern):
        flags = "".join(letter for letter, flag in _FLAGS.items() if expected.flags & flag)
        return {"$regex": f"(?{flags}){expected.pattern}" if flags else expected.pattern}
    if isinstance(expected, Mapping):
        return {key: as_json(value) for key, value in expected.items()}
    if isinstance(expected, list | tuple):
        return [as_json(value) for value in expected]
    if callable(expected):
        raise ConfigError(
            f"{getattr(expected, '__name__', expected)!r} is a function: it cannot be sent to an emulator"
            " in another process; use values, re.compile(…) or JSON paths"
        )
    return expected


def _differing_object(expected: Mapping[Any, object], actual: object, place: str) -> Iterator[_Sentence]:
    if expected.keys() == {"$regex"} and isinstance(expected["$regex"], str):
        yield from _differing(compiled(expected["$regex"]), actual, place)
        return
    for key, value in expected.items():
        if _is_path(key):
            yield from _differing_path(key, value, actual, place)
        elif not isinstance(actual, Mapping):
            yield lambda: f"{place}: expected an object, got {_shown(actual)}"
            return
        elif key not in actual:
            yield partial(_missing, f"{place}.{key}", value)
        else:
            yield from _differing(value, actual[key], f"{place}.{key}")
    if not expected and not isinstance(actual, Mapping):
        yield lambda: f"{place}: expected an object, got {_shown(actual)}"


def _missing(place: str, value: object) -> str:
    return f"{place}: expected {_shown(value)}, it is missing"


def _differing_list(
    expected: list[object] | tuple[object, ...], actual: object, place: str
) -> Iterator[_Sentence]:
    if not isinstance(actual, list | tuple) or len(actual) != len(expected):
        yield lambda: f"{place}: expected a list of {len(expected)}, got {_shown(actual)}"
        return
    for number, (wanted, got) in enumerate(zip(expected, actual, strict=True)):
        yield from _differing(wanted, got, f"{place}[{number}]")


def _differing_path(path: str, value: object, actual: object, place: str) -> Iterator[_Sentence]:
    import jsonpath

    from emulator.scenario.json_paths import found_at

    # A path finds nothing in what has no parts.
    where = f"{place} at {path}"
    try:
        found = found_at(path, actual) if isinstance(actual, Mapping | list) else []
    except (jsonpath.JSONPathError, RecursionError, TooSlow) as error:
        reason = str(error).partition("\n")[0]
        yield lambda: f"{where}: it cannot be looked for here: {reason}"
        return
    if not found:
        yield lambda: f"{where}: expected {_shown(value)}, nothing is there"
    elif not any(matches(value, each) for each in found):
        yield from _differing(value, found[0], where)


def _check_path(path: str, place: str) -> None:
    import jsonpath

    if path[1:2] not in ("", ".", "["):
        raise ConfigError(
            f"{place}: there is no {path[:_SHOWN_MAX]!r}: use $regex, or a JSON path ($.items[0])"
        )

    from emulator.scenario.json_paths import path_of

    try:
        path_of(path)
    except (jsonpath.JSONPathError, RecursionError) as error:
        reason = "it is too long" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise ConfigError(f"{place}: {path[:_SHOWN_MAX]!r} is not a JSON path: {reason}") from error


def _pattern(pattern: object, place: str) -> re.Pattern[str]:
    if not isinstance(pattern, str):
        raise ConfigError(f"{place}: $regex must be a string")
    try:
        return compiled(pattern)
    except ValueError as error:
        shown_pattern = pattern[:_SHOWN_MAX]
        raise ConfigError(f"{place}: {shown_pattern!r} is not a regular expression: {error}") from error


def _is_path(key: object) -> bool:
    return isinstance(key, str) and key.startswith("$") and key != "$regex"


def _equal(expected: object, actual: object) -> bool:
    # For JSON, true is not 1.
    return expected == actual and isinstance(expected, bool) == isinstance(actual, bool)


def _shown(value: object) -> str:
    if isinstance(value, re.Pattern):
        return f"a match of {value.pattern!r}"
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return f"what {getattr(value, '__name__', 'a function')} accepts"
    return shown(value, _SHOWN_MAX)


def shown(value: object, length: int) -> str:
    """The beginning of a value, for a message."""
    try:
        text = repr(value)
    except Exception:  # it is nested too deeply, or an object of a test's
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= length else f"{text[:length]}…"
