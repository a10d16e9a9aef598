"""The Hub's test files (wire.md 9), and what they say."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from emulator.core.policy import EXECUTION_TIMEOUT_MAX_MS
from emulator.errors import EmulatorError

#: Where a project keeps its tests, in the order in which they are looked for.
TEST_FILES = (".runpod/tests.json", ".github/tests.json", "tests.json", "test_input.json")
#: Keys of a test. Others are left alone: a job in test_input.json may have a webhook, a policy, an id …
_TEST_KEYS = ("name", "input", "timeout", "expected_output")
#: What Runpod's own runner of .github/tests.json calls the last of them; null is none there.
_RUNNERS_EXPECTATIONS = ("expectedOutput", "output")
#: What would change what is run, and is not obeyed here, with what to do instead.
_NOT_OBEYED = {
    "templateConfig.dockerArgs": "give what it runs with --command",
    "templateConfig.env": "write the variables into config.env, or give EMULATOR_WORKER_ENV_NAME=value",
    "template": "templates are in Runpod's cloud; the handler here is the one of --handler",
    "endpoint": "endpoints are in Runpod's cloud; the handler here is the one of --handler",
}

#: How much of a value is shown.
VALUE_CHARS = 60


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
            raise BadTestFile(f"{path}: tests: must be an array, not {shown(tests)}")
        places = [f"tests[{number}]" for number in range(len(tests))]
        config = content.get("config")
    elif isinstance(content, dict):
        if "input" not in content:
            raise BadTestFile(f'{path}: must have either "tests" or an "input"{_hint(content)}')
        tests, places = [content], [""]
    elif isinstance(content, list):
        tests, places = content, [f"[{number}]" for number in range(len(content))]
    else:
        raise BadTestFile(f"{path}: must be an object or an array of tests, not {shown(content)}")
    if not tests:
        raise BadTestFile(f"{path}: has no tests")
    read = []
    for number, (fields, place) in enumerate(zip(tests, places, strict=True), 1):
        default_name = f"test {number}" if place else path.name
        read.append(_test(fields, f"{path}: {place}", default_name))
        prefix = f"{path}: {place}{'.' if place else ''}"
        warnings += [f"{prefix}{sentence}" for sentence in (*_typos(fields), *_not_obeyed(fields))]
    return HubTestFile(path=path, tests=tuple(read), env=_env(config, path), warnings=tuple(warnings))


def input_in(path: Path) -> Any:
    """The `input` of a test_input.json, as the SDK reads it.

    :raises BadTestFile: it has none.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise BadTestFile(f'{path}: must be an object like {{"input": …}}, not {shown(content)}')
    return _test(content, f"{path}: ", path.name).input


def _test(fields: object, place: str, default_name: str) -> HubTest:
    """One test; `place` is where it stands."""
    if not isinstance(fields, dict):
        raise BadTestFile(f'{place}: must be an object like {{"input": …}}, not {shown(fields)}')

    def at(key: str) -> str:
        return f"{place}{key}" if place.endswith(": ") else f"{place}.{key}"

    if "input" not in fields:
        raise BadTestFile(f"{at('input')}: missing{_hint(fields)}")
    if fields["input"] is None:
        raise BadTestFile(f"{at('input')}: is null: a job needs an input")
    name = fields.get("name")
    if name is None or name == "":
        # Many a file of the field has an id in its place; that of a test_input.json is the job's.
        test_id = None if place.endswith(": ") else fields.get("id")
        name = test_id if isinstance(test_id, str) and test_id else default_name
    if not isinstance(name, str):
        raise BadTestFile(f"{at('name')}: must be a string, not {shown(name)}")
    return HubTest(
        name=name,
        input=fields["input"],
        timeout_ms=_timeout_ms(fields.get("timeout"), at("timeout")),
        expected_output=_expected_output(fields),
    )


def _expected_output(fields: Mapping[str, Any]) -> Any:
    if "expected_output" in fields:
        return fields["expected_output"]
    given = (fields[key] for key in _RUNNERS_EXPECTATIONS if fields.get(key) is not None)
    return next(given, MISSING)


def _not_obeyed(fields: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each key of `hardwareConfig` that asks for something else to be run."""
    for path, advice in _NOT_OBEYED.items():
        value: Any = fields.get("hardwareConfig")
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value:
            yield f"hardwareConfig.{path} has no effect: {advice}"


def _timeout_ms(value: object, place: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadTestFile(f"{place}: must be a number of ms, not {shown(value)}")
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
        raise BadTestFile(f"{path}: config: must be an object, not {shown(config)}")
    entries = config.get("env")
    if entries is None:
        return {}
    if not isinstance(entries, list):
        raise BadTestFile(f'{path}: config.env: must be an array of {{"key", "value"}}, not {shown(entries)}')
    variables = {}
    for number, entry in enumerate(entries):
        place = f"{path}: config.env[{number}]"
        if not isinstance(entry, dict):
            raise BadTestFile(f'{place}: must be an object like {{"key": "A", "value": "b"}}')
        key, value = entry.get("key"), entry.get("value")
        if not isinstance(key, str) or not key or "=" in key or "\0" in key:
            raise BadTestFile(f"{place}.key: must be a variable's name, not {shown(key)}")
        if not isinstance(value, str) or "\0" in value:
            raise BadTestFile(f"{place}.value: must be a string, not {shown(value)}")
        variables[key] = value
    return variables


def _hint(fields: Mapping[str, Any]) -> str:
    close = [typo for typo in _typos(fields) if typo.endswith(("input?", "tests?"))]
    return f" ({close[0]})" if close else ""


def _typos(fields: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each key that is nearly one of a test's: a misspelt expectation would never fail."""
    absent = {key.replace("_", ""): key for key in (*_TEST_KEYS, "tests") if key not in fields}
    for key in fields:
        if key in (*_TEST_KEYS, *_RUNNERS_EXPECTATIONS, "tests"):
            continue
        plain = key.lower().replace("_", "").replace("-", "")
        if close := difflib.get_close_matches(plain, absent, n=1, cutoff=0.8):
            yield f"{key} has no effect: did you mean {absent[close[0]]}?"


def shown(value: object) -> str:
    """A value, for a sentence; a long one is cut."""
    text = "nothing" if value is MISSING else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= VALUE_CHARS else f"{text[:VALUE_CHARS]}…"
