"""The Hub's test files (wire.md 9): what they say, if an output is as expected, how results are reported.

Nothing is run here.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NoReturn

from emulator.core.policy import EXECUTION_TIMEOUT_MAX_MS
from emulator.errors import EmulatorError

#: Where a project keeps its tests, in the order in which they are looked for.
TEST_FILES = (".runpod/tests.json", ".github/tests.json", "tests.json", "test_input.json")
#: Keys of a test. Others are left alone: a job in test_input.json may have a webhook, a policy, an id …
_TEST_KEYS = ("name", "input", "timeout", "expected_output")
#: How much of a value is shown, and how many differences of one output.
_VALUE_CHARS = 60
_DIFFERENCES_SHOWN = 8
#: What XML 1.0 has no way to write.
_NOT_XML = "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


class BadTestFile(EmulatorError):
    """The file is not a test file: the message names the place."""


class _Missing:
    """What stands for a value that is not there, where null is a value."""

    def __repr__(self) -> str:
        return "nothing"


MISSING: Final = _Missing()


@dataclass(slots=True, frozen=True, kw_only=True)
class HubTest:
    """One job, and what is expected of it."""

    name: str
    #: What the handler finds as `job["input"]`.
    input: Any
    #: How long the handler may hold the job, in ms; None is as long as the endpoint lets any.
    timeout_ms: int | None = None
    #: The output it must have; `MISSING` when any will do.
    expected_output: Any = MISSING


@dataclass(slots=True, frozen=True, kw_only=True)
class HubTestFile:
    """A test file that is in order."""

    path: Path
    tests: tuple[HubTest, ...]
    #: The variables of `config.env`.
    env: Mapping[str, str] = field(default_factory=dict)
    #: What is probably a mistake in it, a sentence each.
    warnings: tuple[str, ...] = ()


class Verdict(StrEnum):
    """What became of a test."""

    PASSED = "passed"
    """Its job COMPLETED in time, with the expected output where there is one."""
    FAILED = "failed"
    """Its job FAILED, or its output is another."""
    TIMED_OUT = "timed out"
    """The handler held its job for too long and was stopped."""
    ERROR = "error"
    """Its job was never begun: the worker did not start."""
    SKIPPED = "skipped"
    """It was not tried, because of an earlier one."""


@dataclass(slots=True, kw_only=True)
class HubResult:
    """One test's result, with all that helps to understand it."""

    test: HubTest
    verdict: Verdict
    #: Why it did not pass, a line each.
    why: tuple[str, ...] = ()
    #: How long the handler held the job, in ms; None when it never got it.
    took_ms: int | None = None
    #: The job's status body; None when there was no job.
    job: Mapping[str, Any] | None = None
    #: Of a handler that raised.
    traceback: str = ""
    #: What the handler printed; grows until its worker has ended.
    printed: list[str] = field(default_factory=list)


# Reading


def parse_json(text: str, place: str) -> Any:
    """The value of a JSON text; `place` is what an error says it is.

    :raises BadTestFile: it is not JSON (NaN and Infinity are not).
    """

    def refuse(constant: str) -> NoReturn:
        raise BadTestFile(f"{place}: not valid JSON: {constant} is not a JSON value")

    def finite(number: str) -> float:
        value = float(number)
        if math.isinf(value):
            raise BadTestFile(f"{place}: not valid JSON: {number} is beyond what a number can hold")
        return value

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise BadTestFile(f"{place}: not valid JSON: {error.msg} at {at}") from error
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits; brackets in brackets without end.
        raise BadTestFile(f"{place}: not valid JSON: {error}") from error


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    :raises BadTestFile: it cannot be read, or is not JSON.
    """
    try:
        # Editors of Windows write a byte order mark.
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise BadTestFile(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadTestFile(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    return parse_json(text, str(path))


def read_test_file(path: Path) -> HubTestFile:
    """The tests of a file in any of the three forms: `{"tests": […]}`, an array of tests, or one test.

    :raises BadTestFile: see there.
    """
    content, config = read_json(path), None
    warnings: list[str] = []
    if isinstance(content, dict) and "tests" in content:
        tests = content["tests"]
        if not isinstance(tests, list):
            raise BadTestFile(f"{path}: tests: must be an array, not {_shown(tests)}")
        places = [f"tests[{number}]" for number in range(len(tests))]
        config = content.get("config")
    elif isinstance(content, dict):
        if "input" not in content:
            raise BadTestFile(f'{path}: must have either "tests" or an "input"{_hint(content)}')
        tests, places = [content], [""]
    elif isinstance(content, list):
        tests, places = content, [f"[{number}]" for number in range(len(content))]
    else:
        raise BadTestFile(f"{path}: must be an object or an array of tests, not {_shown(content)}")
    if not tests:
        raise BadTestFile(f"{path}: has no tests")
    read = []
    for number, (fields, place) in enumerate(zip(tests, places, strict=True), 1):
        default_name = f"test {number}" if place else path.name
        read.append(_test(fields, f"{path}: {place}", default_name))
        warnings += [f"{path}: {place}{'.' if place else ''}{typo}" for typo in _typos(fields)]
    return HubTestFile(path=path, tests=tuple(read), env=_env(config, path), warnings=tuple(warnings))


def input_in(path: Path) -> Any:
    """The `input` of a test_input.json, as the SDK reads it.

    :raises BadTestFile: it has none.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise BadTestFile(f'{path}: must be an object like {{"input": …}}, not {_shown(content)}')
    return _test(content, f"{path}: ", path.name).input


def _test(fields: object, place: str, default_name: str) -> HubTest:
    """One test; `place` is where it stands."""
    if not isinstance(fields, dict):
        raise BadTestFile(f'{place}: must be an object like {{"input": …}}, not {_shown(fields)}')

    def at(key: str) -> str:
        return f"{place}{key}" if place.endswith(": ") else f"{place}.{key}"

    if "input" not in fields:
        raise BadTestFile(f"{at('input')}: missing{_hint(fields)}")
    if fields["input"] is None:
        raise BadTestFile(f"{at('input')}: is null: a job needs an input")
    name = fields.get("name")
    if name is None or name == "":
        name = default_name
    if not isinstance(name, str):
        raise BadTestFile(f"{at('name')}: must be a string, not {_shown(name)}")
    return HubTest(
        name=name,
        input=fields["input"],
        timeout_ms=_timeout_ms(fields.get("timeout"), at("timeout")),
        expected_output=fields.get("expected_output", MISSING),
    )


def _timeout_ms(value: object, place: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadTestFile(f"{place}: must be a number of ms, not {_shown(value)}")
    if not 0 < value <= EXECUTION_TIMEOUT_MAX_MS:
        raise BadTestFile(
            f"{place}: is {value}: it must be above 0 ms and at most {EXECUTION_TIMEOUT_MAX_MS} (7 days)"
        )
    return math.ceil(value)


def _env(config: object, path: Path) -> dict[str, str]:
    """The variables of `config.env`; the rest of `config` is about machines that are not here."""
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise BadTestFile(f"{path}: config: must be an object, not {_shown(config)}")
    entries = config.get("env")
    if entries is None:
        return {}
    if not isinstance(entries, list):
        raise BadTestFile(
            f'{path}: config.env: must be an array of {{"key", "value"}}, not {_shown(entries)}'
        )
    variables = {}
    for number, entry in enumerate(entries):
        place = f"{path}: config.env[{number}]"
        if not isinstance(entry, dict):
            raise BadTestFile(f'{place}: must be an object like {{"key": "A", "value": "b"}}')
        key, value = entry.get("key"), entry.get("value")
        if not isinstance(key, str) or not key or "=" in key or "\0" in key:
            raise BadTestFile(f"{place}.key: must be a variable's name, not {_shown(key)}")
        if not isinstance(value, str) or "\0" in value:
            raise BadTestFile(f"{place}.value: must be a string, not {_shown(value)}")
        variables[key] = value
    return variables


def _hint(fields: Mapping[str, Any]) -> str:
    close = [typo for typo in _typos(fields) if typo.endswith(("input?", "tests?"))]
    return f" ({close[0]})" if close else ""


def _typos(fields: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each key that is nearly one of a test's: a misspelt expectation would never fail."""
    absent = {key.replace("_", ""): key for key in (*_TEST_KEYS, "tests") if key not in fields}
    for key in fields:
        if key in _TEST_KEYS or key == "tests":
            continue
        plain = key.lower().replace("_", "").replace("-", "")
        if close := difflib.get_close_matches(plain, absent, n=1, cutoff=0.8):
            yield f"{key} has no effect: did you mean {absent[close[0]]}?"


# Judging


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


def _shown(value: object) -> str:
    text = "nothing" if value is MISSING else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE_CHARS else f"{text[:_VALUE_CHARS]}…"


def _shown_pair(expected: object, got: object) -> tuple[str, str]:
    """Both values; of long strings that begin alike, the part from shortly before they part."""
    if isinstance(expected, str) and isinstance(got, str) and max(len(expected), len(got)) > _VALUE_CHARS:
        same = next(
            (at for at, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]),
            min(len(expected), len(got)),
        )
        start = max(0, same - _VALUE_CHARS // 3)
        if start:
            return _shown_from(expected, start), _shown_from(got, start)
    return _shown(expected), _shown(got)


def _shown_from(text: str, start: int) -> str:
    return f'"…{_shown(text[start:])[1:]}'


# Reporting


def counts(results: Iterable[HubResult]) -> dict[Verdict, int]:
    """How many tests ended in each way."""
    verdicts = [result.verdict for result in results]
    return {verdict: verdicts.count(verdict) for verdict in Verdict}


def report_json(path: Path, handler: str, results: list[HubResult], took_ms: int) -> dict[str, Any]:
    """All results for a program; times in ms."""
    return {
        "file": str(path),
        "handler": handler,
        "summary": {verdict.replace(" ", "_"): count for verdict, count in counts(results).items()},
        "time_ms": took_ms,
        "tests": [
            {
                "name": result.test.name,
                "result": result.verdict.replace(" ", "_"),
                "time_ms": result.took_ms,
                "why": list(result.why),
                "job": result.job,
                "printed": result.printed,
            }
            for result in results
        ],
    }


def report_junit(path: Path, results: list[HubResult], took_ms: int) -> bytes:
    """All results as JUnit XML, which CI systems read; `took_ms` is how long they took together."""
    from xml.etree import ElementTree

    count = counts(results)
    totals = {
        "tests": str(len(results)),
        "failures": str(count[Verdict.FAILED] + count[Verdict.TIMED_OUT]),
        "errors": str(count[Verdict.ERROR]),
        "skipped": str(count[Verdict.SKIPPED]),
        "time": _seconds(took_ms),
    }
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(root, "testsuite", {"name": _xml(str(path)), **totals})
    for result in results:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {
                "classname": _xml(str(path)),
                "name": _xml(result.test.name),
                "time": _seconds(result.took_ms or 0),
            },
        )
        why = _xml("\n".join(result.why))
        if result.verdict is Verdict.SKIPPED:
            ElementTree.SubElement(case, "skipped", {"message": why})
        elif result.verdict is not Verdict.PASSED:
            element = ElementTree.SubElement(
                case,
                "error" if result.verdict is Verdict.ERROR else "failure",
                {"message": why.partition("\n")[0], "type": result.verdict},
            )
            element.text = _xml(result.traceback) or why
        if result.printed:
            ElementTree.SubElement(case, "system-out").text = _xml("\n".join(result.printed))
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return document + b"\n"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}"


def _xml(text: str) -> str:
    return re.sub(_NOT_XML, "\N{REPLACEMENT CHARACTER}", text)
