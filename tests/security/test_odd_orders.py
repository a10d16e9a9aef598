"""Orders that no one who means well would give: refused with a sentence (attack.md 17, 24)."""

import asyncio
import json

import pytest

from tests.api.client import emulated

pytestmark = pytest.mark.anyio

TEN_YEARS = 10 * 366 * 86_400_000
HUGE = 10**400

FAULTS = [
    ({"then": {"latency_ms": HUGE}}, "then.latency_ms: must be a number of ms, up to"),
    ({"then": {"latency_ms": TEN_YEARS + 1}}, "then.latency_ms: must be a number of ms, up to"),
    ({"then": {"connection": ["reset"]}}, "then.connection: must be reset or truncate"),
    ({"then": {"connection": {}}}, "then.connection: must be reset or truncate"),
    ({"then": {"crash": []}}, "then.crash: must be before or mid"),
    ({"then": {"webhook": {"a": 1}}}, "then.webhook: must be refuse or duplicate"),
    ({"then": {"status": 503, "body": "\ud800"}}, "then.body: has half of a surrogate pair"),
    ({"then": {"status": 503, "body": [float("inf")]}}, "then.body: must be JSON: it[0] is inf"),
    ({"then": {"status": 503, "headers": {"A b": "1"}}}, "then.headers: must be an object like"),
    ({"then": {"status": 503, "headers": {"": "1"}}}, "then.headers: must be an object like"),
    ({"then": {"status": 503}, "match": []}, "match: must be an object like"),
    ({"then": {"status": 503}, "times": HUGE}, "times: must be a whole number, up to"),
    ({"then": {"status": 503}, "probability": HUGE}, "probability: must be a number from 0 to 1"),
    ({"then": {"fail": "x", "after_ms": 1}}, "then: after_ms stands beside crash alone"),
    ({"then": {"fail": "x"}, "match": {"operation": ["run"]}}, "match.operation: must be the name"),
    ([], "body: "),
]
STUBS = [
    ({"returns": 1, "delay_ms": HUGE}, "delay_ms: must be a number of ms, up to"),
    ({"fails": 1}, "fails: must be the job's error"),
    ({"chunks": "abc"}, "chunks: must be a list"),
    ({"when": [], "returns": 1}, "when: must be an object like"),
    ({"retruns": 1}, "retruns: there is no such key: did you mean returns?"),
]
ANSWERS = [
    ([{"delay_ms": HUGE}], "answers.0.delay_ms: must be a number of ms, up to"),
    ([200, {"status": 99}], "answers.1.status: must be a status code from 200 to 599"),
    ([{"body": "\ud800"}], "answers.0.body: has half of a surrogate pair"),
    ([{"delay": 1}], "answers.0.delay: there is no such key"),
    (["200"], "answers.0: an answer is a status, or an object"),
]


async def refused(client, method, path, body, told):
    answer = await client.http.request(method, f"/_emulator{path}", content=json.dumps(body))
    assert answer.status_code == 400, answer.text
    assert told in answer.json()["error"]["message"]


@pytest.mark.parametrize(("order", "told"), FAULTS)
async def test_a_fault_is_refused_with_its_place(order, told):
    async with emulated() as client:
        await refused(client, "POST", "/faults", order, told)
        assert (await client.http.get("/_emulator/faults")).json() == {"faults": []}


@pytest.mark.parametrize(("order", "told"), STUBS)
async def test_a_stub_is_refused_with_its_place(order, told):
    async with emulated() as client:
        await refused(client, "POST", "/endpoints/ep/stubs", order, told)


@pytest.mark.parametrize(("answers", "told"), ANSWERS)
async def test_a_sinks_answer_is_refused_with_its_place_and_time_goes_on(answers, told):
    async with emulated() as client:
        await refused(client, "PUT", "/sinks/hook/answers", {"answers": answers}, told)
        moved = await client.http.post("/_emulator/clock/advance", json={"by_ms": 1_000})
        assert moved.status_code == 200


async def test_the_longest_time_is_one_that_the_clock_can_wait_for():
    async with emulated() as client:
        body = {"answers": [{"delay_ms": TEN_YEARS}]}
        assert (await client.http.put("/_emulator/sinks/hook/answers", json=body)).status_code == 200
        waiting = asyncio.create_task(client.http.post("/_emulator/sink/hook"))
        await client.clock.settle()
        moved = await client.http.post("/_emulator/clock/advance", json={"by_ms": 1_000})
        assert moved.status_code == 200
        waiting.cancel()
