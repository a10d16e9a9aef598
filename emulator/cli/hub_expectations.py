"""Whether an output is what a test expects, and if not, where it differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emulator.cli.hub_test_files import MISSING, VALUE_CHARS, HubTest, shown

#: Of one output.
_DIFFERENCES_SHOWN = 8


@dataclass(slots=True, frozen=True, kw_only=True)
class Difference:
    """One place in which an output is not as expected; either value may be `MISSING`."""

    #: E.g. `output.images[0].url`.
    path: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        expected, got = _shown_pair(self.expected, self.got)
        if self.got is MISSING:
            return f"{self.path}: expected {expected}, but it is missing"
        if self.expected is MISSING:
            return f"{self.path}: not expected, got {got}"
        return f"{self.path}: expected {expected}, got {got}"


def differences(expected: Any, got: Any, path: str = "output") -> Iterator[Difference]:
    """Where two JSON values differ, at the deepest places; 1 and 1.0 are the same number, true is none."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in [*expected, *(key for key in got if key not in expected)]:
            place = (
                f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key, ensure_ascii=False)}]"
            )
            yield from differences(expected.get(key, MISSING), got.get(key, MISSING), place)
    elif isinstance(expected, list) and isinstance(got, list):
        for number in range(max(len(expected), len(got))):
            left, right = (values[number] if number < len(values) else MISSING for values in (expected, got))
            yield from differences(left, right, f"{path}[{number}]")
    elif isinstance(expected, bool) is not isinstance(got, bool) or expected != got:
        yield Difference(path=path, expected=expected, got=got)


def judge_output(test: HubTest, output: Any) -> tuple[str, ...]:
    """What is wrong with the output of a COMPLETED job, a line each; nothing when it passes.

    `output` is `MISSING` when the job has none.
    """
    if test.expected_output is MISSING:
        return ()
    found = [str(difference) for difference in differences(test.expected_output, output)]
    more = len(found) - _DIFFERENCES_SHOWN
    return (*found[:_DIFFERENCES_SHOWN], *([f"… and {more} more"] if more > 0 else []))


def _shown_pair(expected: object, got: object) -> tuple[str, str]:
    """Both values; of long strings that begin alike, the part from shortly before they part."""
    if isinstance(expected, str) and isinstance(got, str) and max(len(expected), len(got)) > VALUE_CHARS:
        same = next(
            (at for at, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]),
            min(len(expected), len(got)),
        )
        start = max(0, same - VALUE_CHARS // 3)
        if start:
            return _shown_from(expected, start), _shown_from(got, start)
    return shown(expected), shown(got)


def _shown_from(text: str, start: int) -> str:
    return f'"…{shown(text[start:])[1:]}'
