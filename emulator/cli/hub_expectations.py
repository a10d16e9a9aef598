"""Whether an output is what a test expects, and if not, where it differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from emulator.cli.hub_test_files import MISSING, VALUE_CHARS, HubTest, shown


class Match(StrEnum):
    """How like the expected output an output must be."""

    EXACT = "exact"
    """The same value."""
    SUBSET = "subset"
    """Objects may have more keys than expected, at any depth; lists have as many items."""


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


def differences(
    expected: Any, got: Any, match: Match = Match.EXACT, path: str = "output"
) -> Iterator[Difference]:
    """Where two JSON values differ, at the deepest places; 1 and 1.0 are the same number, true is none."""
    if isinstance(expected, dict) and isinstance(got, dict):
        others = [] if match is Match.SUBSET else [key for key in got if key not in expected]
        for key in [*expected, *others]:
            place = (
                f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key, ensure_ascii=False)}]"
            )
            yield from differences(expected.get(key, MISSING), got.get(key, MISSING), match, place)
    elif isinstance(expected, list) and isinstance(got, list):
        for number in range(max(len(expected), len(got))):
            left, right = (values[number] if number < len(values) else MISSING for values in (expected, got))
            yield from differences(left, right, match, f"{path}[{number}]")
    elif isinstance(expected, bool) is not isinstance(got, bool) or expected != got:
        yield Difference(path=path, expected=expected, got=got)


def judge_output(test: HubTest, output: Any, match: Match = Match.EXACT) -> tuple[str, ...]:
    """What is wrong with the output of a COMPLETED job, a line each; nothing when it passes.

    `output` is `MISSING` when the job has none.
    """
    if test.expected_output is MISSING:
        return ()
    found = [str(difference) for difference in differences(test.expected_output, output, match)]
    more = len(found) - _DIFFERENCES_SHOWN
    return (*found[:_DIFFERENCES_SHOWN], *([f"… and {more} more"] if more > 0 else []))


def runners_view(test: HubTest, output: Any, *, passed: bool) -> str:
    """Where Runpod's own runner of .github/tests.json would judge another way; empty where it would not.

    It compares the JSON texts, so the order of keys counts, and only counts what matches: a test passes
    there once its job is COMPLETED.
    """
    if test.expected_output is MISSING:
        return ""
    if not passed:
        return "Runpod's own runner lets such a test pass: it only counts which outputs are as expected"
    if output is not MISSING and _as_text(test.expected_output) != _as_text(output):
        return "Runpod's own runner does not count this output as the expected one: the JSON texts differ"
    return ""


def _as_text(value: Any) -> str:
    """As JavaScript writes it: a number that is whole has no fraction."""
    return json.dumps(_whole(value))


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
