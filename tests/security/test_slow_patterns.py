"""Patterns and paths of users are matched within a limit (attack.md 16)."""

import json
import logging
import re

import pytest

from emulator.errors import ConfigError
from emulator.scenario import patterns
from emulator.scenario.matching import checked, differences, matches
from tests.api.client import emulated

pytestmark = pytest.mark.anyio

#: It takes more than a human's life for the text.
SLOW, TEXT = "^(a|aa)+$", "a" * 60 + "!"
DEEP = json.loads('{"a":' * 60 + "1" + "}" * 60)


@pytest.fixture(autouse=True)
def patterns_are_new():
    """What has been given up in another test has another chance."""
    patterns._limited.cache_clear()


@pytest.mark.parametrize(
    ("match", "input"),
    [
        ({"$regex": SLOW}, TEXT),
        ({"$.text": {"$regex": SLOW}}, {"text": TEXT}),
        ({f"$[?search(@.text, '{SLOW}')]": {}}, [{"text": TEXT}]),
        ({f"$[?match(@.text, '{SLOW}')]": {}}, [{"text": TEXT}]),
        ({"$[?@.text =~ /(a|aa)+/]": {}}, [{"text": TEXT}]),
    ],
)
async def test_a_rule_that_would_take_ages_does_not_match_and_says_so(match, input, caplog):
    """It held the loop for seconds, or for ever."""
    caplog.set_level(logging.WARNING)
    async with emulated() as client:
        rule = {"match": {"input": match}, "then": {"fail": "it matched"}}
        answer = await client.http.post("/_emulator/faults", json=rule)
        assert answer.status_code == 200, answer.text
        for _ in range(5):
            assert (await client.runsync(input))["status"] == "COMPLETED"
        found = await client.http.post(
            "/_emulator/journal/find", json={"match": {"request": {"body": {"input": match}}}}
        )
        assert found.json() == {"entries": []}
    told = [record.getMessage() for record in caplog.records if "taken for no match" in record.getMessage()]
    assert told
    assert len(told) <= 6, "a pattern that is always too slow is given up"


@pytest.mark.parametrize("path", ["$..*..*..*..*", "$..*..*[?count($..*) == 1]"])
async def test_a_path_that_leads_everywhere_is_given_up(path):
    """It held the loop for 17 s."""
    async with emulated() as client:
        rule = {"match": {"input": {path: 2}}, "then": {"fail": "it matched"}}
        assert (await client.http.post("/_emulator/faults", json=rule)).status_code == 200
        assert (await client.runsync(DEEP))["status"] == "COMPLETED"
    [told] = differences({path: 2}, DEEP)
    assert "the path leads over more than" in told


def test_what_is_too_slow_is_told_where_it_is_compared():
    [told] = differences(re.compile(SLOW), TEXT)
    assert told.startswith("input: cannot be compared with what is expected: the pattern ")
    [told] = differences({"$..*..*..*..*": 2}, DEEP)
    assert "the path leads over more than" in told


@pytest.mark.parametrize(
    "pattern", [r"(?i)^A\d+$", r"(?P<x>a)(?P=x)", r"[^\W\d_]+\Z", r"(?<!b)a{2,3}?", r"\bä\b"]
)
def test_patterns_mean_what_they_mean_in_python(pattern):
    expected = checked({"$regex": pattern}, "match")
    for text in ("a1", "aa", "baaa", "ä", "", "a\n"):
        assert matches(expected, text) == bool(re.search(pattern, text)), text


@pytest.mark.parametrize(
    "what", [{"$regex": "(" * 5_000 + ")" * 5_000}, {"$regex": "("}, {"$" + ".a[?" * 3: 1}]
)
async def test_what_is_no_pattern_is_refused(what):
    """A deep one was answered with 500 (24)."""
    with pytest.raises(ConfigError, match="match"):
        checked(what, "match")
