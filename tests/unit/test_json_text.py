"""What JSON can say goes out compact; what it cannot say is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.core.json_text import NotJSON, encode

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=30,
)


@given(json_values)
def test_it_reads_back_as_it_was(value):
    assert json.loads(encode(value)) == value


def test_it_is_compact_and_keeps_order_and_letters():
    assert encode({"z": [1, 2.5, None, True], "ä": "漢 😀"}) == '{"z":[1,2.5,null,true],"ä":"漢 😀"}'.encode()


def test_half_a_surrogate_pair_is_escaped():
    assert encode({"text": "\ud83d", "é": 1}) == b'{"text":"\\ud83d","\\u00e9":1}'


def test_tuples_are_lists_and_keys_are_text():
    assert encode({1: (1, 2), None: "x", False: 1.0}) == b'{"1":[1,2],"null":"x","false":1.0}'


class Model:
    pass


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def loop():
    value = {"name": "loop"}
    value["self"] = [value]
    return value


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (float("nan"), "output is nan, which JSON cannot express"),
        ({"score": float("inf")}, "output['score'] is inf, which JSON cannot express"),
        ([1, {"a": [0, -float("inf")]}], "output[1]['a'][1] is -inf, which JSON cannot express"),
        (b"raw", "output is of type bytes, which JSON cannot express: return text, numbers, lists or dicts"),
        (
            {"images": [Model()]},
            "output['images'][0] is of type Model, which JSON cannot express:"
            " return text, numbers, lists or dicts",
        ),
        (
            {1, 2},
            "output is of type set, which JSON cannot express: return text, numbers, lists or dicts",
        ),
        ({"a": {(1, 2): 3}}, "output['a'] has a key of type tuple, which JSON cannot express"),
        (loop(), "output['self'][0] contains itself, which JSON cannot express"),
    ],
)
def test_what_json_cannot_express_is_named_with_its_place(value, sentence):
    with pytest.raises(NotJSON) as refused:
        encode(value)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("value", [nested(100_000), {float("nan"): 1}])
def test_the_rest_is_refused_in_a_sentence_too(value):
    with pytest.raises(NotJSON, match="output"):
        encode(value)


def test_the_message_calls_the_value_what_the_caller_does():
    with pytest.raises(NotJSON, match=r"chunk\['x'\] is nan"):
        encode({"x": float("nan")}, "chunk")


def test_the_same_list_twice_is_no_loop():
    shared = [1]
    assert encode([shared, shared]) == b"[[1],[1]]"
    with pytest.raises(NotJSON, match=r"output\[2\] is nan"):
        encode([shared, shared, float("nan")])
