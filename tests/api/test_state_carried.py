"""A state that is taken out of an emulator and put into another, over HTTP (docs/state.md)."""

from __future__ import annotations

import json

import pytest

from tests.api.client import emulated
from tests.api.receiver import receiving

pytestmark = pytest.mark.anyio


async def saved(client, query=""):
    answer = await client.http.post(f"/_emulator/state/save{query}")
    assert answer.status_code == 200, answer.text
    return answer.text


async def load(client, lines, query=""):
    answer = await client.http.post(f"/_emulator/state/load{query}", content=lines)
    assert answer.status_code == 200, answer.text
    return answer.json()["jobs"]


async def test_an_emulator_goes_on_where_another_was():
    async with receiving(500) as receiver:
        async with emulated(worker_kind="external") as client:
            first, second, third = [await client.run(number, webhook=receiver.url) for number in range(3)]
            await client.get("/job-take/w1?job_in_progress=0")
            await client.post(f"/job-stream/w1/{first}", content='{"output": 7}')
            await client.post(f"/job-done/w1/{first}", content='{"output": {"b": 1, "a": 2}}')
            await receiver.received(1)
            await client.clock.settle()
            await client.post(f"/cancel/{third}")
            lines = await saved(client)
            health = await client.jobs()
        async with emulated(worker_kind="external") as client:
            await client.run("is forgotten")
            await client.clock.advance(50_000_000)
            assert await load(client, lines) == 3
            assert await client.jobs() == health
            assert list((await client.status(first))["output"]) == ["b", "a"]
            assert (await client.status(third))["status"] == "CANCELLED"
            assert (await client.get(f"/stream/{first}")).json()["stream"] == [{"output": 7}]
            assert (await client.get("/job-take/w9?job_in_progress=0")).json()["id"] == second
            told = len(receiver.requests)
            await client.clock.advance(10_000)
            assert len(receiver.requests) > told


async def test_what_had_a_minute_left_has_a_minute_left():
    async with emulated(worker_kind="external") as client:
        job_id = await client.run(policy={"ttl": 100_000})
        await client.clock.advance(40_000)
        lines = await saved(client)
    async with emulated(worker_kind="external") as client:
        await client.clock.advance(10**9)
        await load(client, lines)
        await client.clock.advance(59_999)
        assert not await client.is_gone(job_id)
        await client.clock.advance(1)
        assert await client.is_gone(job_id)


async def test_a_job_needs_no_more_than_its_endpoint_and_its_request():
    prepared = [
        {"kind": "job", "endpoint": "ep", "request": {"input": {"mock_return": number}}}
        for number in range(2)
    ]
    prepared.append(
        {"kind": "job", "endpoint": "ep", "id": "mine", "request": {"input": 1}, "status": "FAILED",
         "error": "out of memory"}
    )  # fmt: skip
    async with emulated() as client:
        assert await load(client, "\n".join(map(json.dumps, prepared))) == 3
        await client.clock.settle()
        jobs = (await client.get("/requests")).json()["requests"]
        assert [job.get("output") for job in jobs] == [None, 1, 0]
        assert (await client.status("mine"))["error"] == "out of memory"
        assert (await client.post("/retry/mine")).status_code == 200


async def test_secrets_are_masked_unless_they_are_asked_for():
    fields = {
        "s3Config": {"accessId": "AKIA", "accessSecret": "hush"},
        "webhook": "http://127.0.0.1:1/?t=hush",
    }
    async with emulated(worker_kind="external") as client:
        await client.run(**fields)
        masked, whole = await saved(client), await saved(client, "?secrets=true")
    assert "hush" not in masked
    assert "AKIA" not in masked
    assert whole.count("hush") == 2


async def test_one_endpoint_takes_the_state_of_another():
    async with emulated() as client:
        await client.http.put("/_emulator/endpoints/other", json={})
        stub = {"when": {"input": 1}, "returns": "stubbed"}
        await client.http.post("/_emulator/endpoints/other/stubs", json=stub)
        job = (await client.http.post("/v2/other/runsync", json={"input": 1})).json()
        lines = await saved(client, "?endpoint=other")
        await client.http.delete("/_emulator/endpoints/other")
        kept = await client.run({"mock_return": 1})
        assert await load(client, lines, "?endpoint=ep") == 1
        assert (await client.status(job["id"]))["output"] == "stubbed"
        assert (await client.runsync(1))["output"] == "stubbed"
        assert not await client.is_gone(kept)


async def test_what_was_loaded_is_in_the_file(tmp_path):
    line = {"kind": "job", "endpoint": "ep", "id": "mine", "request": {"input": 1}, "chunks": [1, 2]}
    state = {"options": {"state": tmp_path / "state.db"}, "worker_kind": "external"}
    async with emulated(**state) as client:
        await client.run()
        await load(client, json.dumps(line))
    async with emulated(**state) as client:
        jobs = (await client.get("/requests")).json()["requests"]
        assert [job["id"] for job in jobs] == ["mine"]
        assert (await client.get("/stream/mine")).json()["stream"] == [{"output": 1}, {"output": 2}]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("{", "line 1 is not one of a state"),
        ("[1]", "line 1 is not one of a state: it is no object"),
        ('{"kind": "cat"}', "line 1 is not one of a state: there is no kind 'cat'"),
        ('\n{"kind": "job", "endpoint": "ep"}', "line 2 is not one of a state: there is no 'request'"),
        ('{"kind": "job", "endpoint": "ep", "request": {}}', "input: missing"),
        ('{"kind": "job", "endpoint": "no", "request": {"input": 1}}', "endpoint 'no', which is not served"),
        ('{"kind": "job", "endpoint": "ep", "request": {"input": 1}, "place": 1e9}', "place must be a whole"),
        ('{"kind": "state", "format": 9, "now_ms": 0}', "a later runpod-emulator"),
        ('{"kind": "counts", "name": "ep", "value": 5}', "the state makes no sense"),
        ('{"kind": "faults", "name": "", "value": [{"no": "fault"}]}', "the state makes no sense"),
        ('{"kind": "stubs", "name": "ep", "value": [{}]}', "the state makes no sense"),
        (
            '{"kind": "endpoint", "name": "e", "value": {"settings": {"no": 1}, "clock": null}}',
            "the state makes no sense",
        ),
    ],
)
async def test_what_is_no_state_is_refused_and_forgets_nothing(lines, reason):
    async with emulated(worker_kind="external") as client:
        job_id = await client.run()
        answer = await client.http.post("/_emulator/state/load", content=lines)
        assert answer.status_code == 400
        assert reason in answer.json()["error"]["message"]
        assert (await client.status(job_id))["status"] == "IN_QUEUE"


async def test_a_state_says_what_workers_run_only_where_that_is_allowed():
    line = {"kind": "endpoint", "name": "e", "value": {"settings": {"handler": "os:getcwd"}, "clock": None}}
    async with emulated() as client:
        answer = await client.http.post("/_emulator/state/load", content=json.dumps(line))
        assert answer.status_code == 403
