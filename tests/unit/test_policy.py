"""What a job may ask of its execution."""

import pytest

from emulator.core.policy import ExecutionPolicy, checked_ttl
from emulator.errors import InvalidRequest

DEFAULTS = ExecutionPolicy(execution_timeout_ms=600_000)


def test_the_defaults_are_productions():
    assert (DEFAULTS.ttl_ms, DEFAULTS.low_priority) == (86_400_000, False)


@pytest.mark.parametrize("policy", [None, {}, {"ttl": None, "executionTimeout": None, "lowPriority": None}])
def test_nothing_given_changes_nothing(policy):
    assert DEFAULTS.overridden_by(policy) == DEFAULTS


def test_what_is_given_wins_and_the_rest_stays():
    endpoint = ExecutionPolicy(execution_timeout_ms=30_000, ttl_ms=40_000)
    assert endpoint.overridden_by({"ttl": 20_000}) == ExecutionPolicy(
        execution_timeout_ms=30_000, ttl_ms=20_000
    )
    assert endpoint.overridden_by({"executionTimeout": 9_000, "lowPriority": True}) == ExecutionPolicy(
        execution_timeout_ms=9_000, ttl_ms=40_000, low_priority=True
    )
    assert endpoint == ExecutionPolicy(execution_timeout_ms=30_000, ttl_ms=40_000)


@pytest.mark.parametrize("timeout", [5_000, 604_800_000, 604_800_001])
def test_the_bounds_of_the_execution_timeout_are_accepted(timeout):
    assert DEFAULTS.overridden_by({"executionTimeout": timeout}).execution_timeout_ms == timeout


@pytest.mark.parametrize("ttl", [10_000, 604_800_000])
def test_the_bounds_of_the_ttl_are_accepted(ttl):
    assert DEFAULTS.overridden_by({"ttl": ttl}).ttl_ms == ttl
    assert checked_ttl("?ttl", ttl) == ttl


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        *[
            ({"executionTimeout": value}, "policy.executionTimeout")
            for value in (4_999, 2**70, 0, -1, "6000", 6_000.0, True, [6_000])
        ],
        *[({"ttl": value}, "policy.ttl") for value in (9_999, 604_800_001, 0, -1, "60000", 6e4, True, {})],
        *[({"lowPriority": value}, "policy.lowPriority") for value in ("true", 1, 0, [])],
        *[(value, "policy") for value in ("ttl", 5, [], True)],
    ],
)
def test_anything_else_is_refused_by_name(policy, field):
    with pytest.raises(InvalidRequest) as refused:
        DEFAULTS.overridden_by(policy)
    assert refused.value.field == field
    assert str(refused.value).startswith(f"bad request: {field}: ")


def test_the_refusal_says_what_was_sent_and_what_is_right():
    with pytest.raises(InvalidRequest) as refused:
        DEFAULTS.overridden_by({"executionTimeout": 4_999})
    assert str(refused.value) == (
        "bad request: policy.executionTimeout: 4999 must be an integer of milliseconds,"
        " at least 5000 and at most 604800000"
    )


def test_the_refusal_does_not_repeat_a_huge_value():
    with pytest.raises(InvalidRequest) as refused:
        DEFAULTS.overridden_by({"ttl": "x" * 10_000})
    assert len(str(refused.value)) < 300


def test_a_ttl_on_the_url_is_refused_under_its_own_name():
    with pytest.raises(InvalidRequest, match=r"bad request: \?ttl: 10 must be"):
        checked_ttl("?ttl", 10)
