"""What README.md shows works, and gives what it shows."""

import json

import pytest

from tests.conformance.readme import RUN, examples
from tests.conformance.served import served

EXAMPLES = examples()
#: All that an example prints, by something that is only in this one.
PRINTED = {
    "endpoint.run_sync(": "{'prompt': 'hello'}\n{'prompt': 'again'} COMPLETED\n",
    "endpoint.runSync(": "COMPLETED { prompt: 'hello' }\n",
}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    """As `make run` starts it."""
    with served(tmp_path_factory.mktemp("readme"), "handlers/echo.py") as emulator:
        yield emulator


def answers(printed):
    """The JSON texts that curl printed, one after the other."""
    decoder, found, start = json.JSONDecoder(), [], 0
    while start < len(printed):
        answer, start = decoder.raw_decode(printed, start)
        found.append(answer)
        start += len(printed[start:]) - len(printed[start:].lstrip())
    return found


def resembles(shown, answer):
    """Whether an answer is as it is shown; numbers and what is shortened by an … differ from run to run."""
    match shown:
        case dict():
            return list(shown) == list(answer) and all(resembles(shown[key], answer[key]) for key in shown)
        case int():
            return type(answer) is type(shown)
        case str():
            return answer == shown or (isinstance(answer, str) and "…" in shown)
    return shown == answer


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.language}-line-{example.line}")
def test_an_example(emulator, example, tmp_path):
    printed = example.run(emulator, tmp_path)
    assert printed
    assert ("1 passed" in printed) == ("def test_" in example.code)
    for part, expected in PRINTED.items():
        if part in example.code:
            assert printed == expected
    if example.language == "sh":
        for answer in answers(printed):
            assert "error" not in answer, answer
        if example.shown is not None:
            (answer,) = answers(printed)
            (shown,) = answers(example.shown)
            assert resembles(shown, answer), answer


@pytest.mark.parametrize("language", RUN)
def test_there_is_an_example_in(language):
    assert language in {example.language for example in EXAMPLES}


@pytest.mark.parametrize("part", PRINTED)
def test_what_is_expected_belongs_to_one_example(part):
    assert sum(part in example.code for example in EXAMPLES) == 1
