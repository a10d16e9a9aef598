"""The body of /run and /runsync: checked once, kept as it came."""

import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.core.job import Job
from emulator.core.policy import ExecutionPolicy
from emulator.core.request import JobRequest
from emulator.errors import InvalidRequest, MalformedRequest

DEFAULTS = ExecutionPolicy(execution_timeout_ms=600_000)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


def parse(body, **options):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return JobRequest.parse(body, DEFAULTS, **options)


def payload_of(request):
    return Job("some-id", request, now_ms=0).payload()


def test_the_least_that_is_needed():
    request = parse({"input": "hi"})
    assert (request.policy, request.webhook, request.sync) == (DEFAULTS, None, False)
    assert (request.empty_input, request.warnings) == (False, ())


@given(json_values.filter(lambda value: value not in (None, {})))
def test_the_handler_gets_the_input_as_it_was_sent(value):
    request = parse({"input": value})
    received = payload_of(request)
    assert received == {"input": value, "id": "some-id"}
    assert json.dumps(received["input"]) == json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "123456789012345678901234567890",
        "-9007199254740993",
        '"\\ud83d\\ude00 \\u0000 é 漢"',
        '"😀"',
        '{"z": 1, "a": {"y": 2, "b": 3}}',
        "[[[[[[1]]]]]]",
        "1.5e-7",
        '""',
        "0",
        "false",
        "[]",
    ],
)
def test_the_body_is_kept_to_the_byte(text):
    body = f'{{ "webhook" : "" ,"input":{text} }}'.encode()
    request = parse(body)
    assert request.body == body
    assert json.dumps(payload_of(request)["input"]) == json.dumps(json.loads(text))


def test_keys_it_does_not_know_reach_the_handler():
    body = {"input": 1, "s3Config": {"bucketName": "b"}, "webhookV2": "x", "mine": [1, 2]}
    assert payload_of(parse(body)) == {**body, "id": "some-id"}
    assert parse(body).warnings == ()


def test_a_client_cannot_choose_the_id():
    assert payload_of(parse({"input": 1, "id": "mine"}))["id"] == "some-id"


@pytest.mark.parametrize("body", [{}, {"input": None}, {"inputs": {"a": 1}}])
def test_the_input_is_required(body):
    with pytest.raises(MalformedRequest, match="bad request: input: missing or null"):
        parse(body)


@pytest.mark.parametrize(("value", "empty"), [({}, True), ([], False), ("", False), ({"a": None}, False)])
def test_only_an_empty_object_is_what_production_drops(value, empty):
    assert parse({"input": value}).empty_input is empty


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"input=1", "not valid JSON"),
        (b'{"input": 1} x', "not valid JSON"),
        (b'{"input": NaN}', "NaN is not a JSON value"),
        (b'{"input": [-Infinity]}', "-Infinity is not a JSON value"),
        (b'{"input": 1e999}', "1e999"),
        (b'{"input": {"deep": [-1.5E+400]}}', r"-1\.5E\+400"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"input": "\xe9"}', "not UTF-8: .* at byte 11"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", "must be a JSON object .* not list"),
        (b"null", "must be a JSON object .* not null"),
        (b'"input"', "must be a JSON object .* not str"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body, complaint):
    with pytest.raises(MalformedRequest, match=f"bad request: body: .*{complaint}"):
        parse(body)


# Policy


def test_a_ttl_on_the_url_wins_over_the_endpoints_and_loses_to_the_bodys():
    assert parse({"input": 1}, ttl=20_000).policy.ttl_ms == 20_000
    assert parse({"input": 1, "policy": {"ttl": 30_000}}, ttl=20_000).policy.ttl_ms == 30_000
    assert parse({"input": 1, "policy": {"lowPriority": True}}, ttl=20_000).policy == ExecutionPolicy(
        execution_timeout_ms=600_000, ttl_ms=20_000, low_priority=True
    )


@pytest.mark.parametrize("ttl", [9_999, 604_800_001, True])
def test_a_bad_ttl_on_the_url_is_refused(ttl):
    with pytest.raises(InvalidRequest, match=r"\?ttl"):
        parse({"input": 1}, ttl=ttl)


def test_a_bad_policy_is_refused():
    with pytest.raises(InvalidRequest, match=r"policy\.ttl"):
        parse({"input": 1, "policy": {"ttl": 1}})


# Webhooks


@pytest.mark.parametrize(
    "webhook",
    [
        "https://example.com/hook",
        "http://127.0.0.1:8080/",
        "http://localhost/x?y=z#a",
        "HTTPS://EXAMPLE.COM",
        "http://user:secret@host.internal/hook",
        "http://[::1]:9000/hook",
        "https://bücher.example/über",
    ],
)
def test_a_webhook_is_an_http_url(webhook):
    assert parse({"input": 1, "webhook": webhook}).webhook == webhook


@pytest.mark.parametrize("webhook", [None, ""])
def test_a_webhook_may_be_left_empty(webhook):
    assert parse({"input": 1, "webhook": webhook}).webhook is None


@pytest.mark.parametrize(
    "webhook",
    [
        "example.com/hook",
        "/hook",
        "ftp://example.com",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://host:port/",
        "http://host:70000/",
        "http://[::1/",
        "http://exa mple.com/",
        "http://example.com/\r\nX: 1",
        "javascript:alert(1)",
        42,
        ["https://example.com"],
        {"url": "https://example.com"},
        True,
    ],
)
def test_anything_else_is_no_webhook(webhook):
    with pytest.raises(InvalidRequest, match="bad request: webhook: "):
        parse({"input": 1, "webhook": webhook})


# Mistakes that are no errors


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ({"webHook": "https://x.example"}, "webHook has no effect: did you mean webhook?"),
        ({"webhok": "https://x.example"}, "webhok has no effect: did you mean webhook?"),
        ({"s3config": {}}, "s3config has no effect: did you mean s3Config?"),
        (
            {"executionTimeout": 6_000},
            "executionTimeout has no effect: did you mean policy.executionTimeout?",
        ),
        ({"ttl": 60_000}, "ttl has no effect: did you mean policy.ttl?"),
        ({"policy": {"TTL": 60_000}}, "policy.TTL has no effect: did you mean policy.ttl?"),
        (
            {"policy": {"execution_timeout": 6_000}},
            "policy.execution_timeout has no effect: did you mean policy.executionTimeout?",
        ),
        (
            {"policy": {"lowpriority": True}},
            "policy.lowpriority has no effect: did you mean policy.lowPriority?",
        ),
        (
            {"policy": {"executionTimeout": 5_000}},
            "policy.executionTimeout is 5000: production takes it, its documents ask for more",
        ),
        (
            {"policy": {"executionTimeout": 604_800_001}},
            "policy.executionTimeout is 604800001: production takes it, its documents allow at most"
            " 604800000 (7 days)",
        ),
    ],
)
def test_a_misspelt_key_is_accepted_with_a_warning(body, warning):
    assert parse({"input": 1, **body}).warnings == (warning,)


def test_every_mistake_is_named():
    body = {"input": 1, "Webhook": "", "policy": {"tttl": 1, "lowPriorit": True, "own": 1}, "own": 1}
    assert len(parse(body).warnings) == 3


# From Python


def test_a_request_can_be_made_from_a_mapping():
    fields = MappingProxyType({"input": {"text": "é😀", "n": 2**80}, "policy": {"ttl": 10_000}})
    request = JobRequest.of(fields, DEFAULTS, sync=True)
    assert (request.sync, request.policy.ttl_ms) == (True, 10_000)
    assert payload_of(request)["input"] == {"text": "é😀", "n": 2**80}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}, object()])
def test_values_json_cannot_express_are_refused(value):
    with pytest.raises(MalformedRequest, match="bad request: body: cannot be written as JSON"):
        JobRequest.of({"input": {"value": value}}, DEFAULTS)


def test_a_mapping_that_contains_itself_is_refused():
    loop = {}
    loop["input"] = loop
    with pytest.raises(MalformedRequest, match="cannot be written as JSON"):
        JobRequest.of(loop, DEFAULTS)
