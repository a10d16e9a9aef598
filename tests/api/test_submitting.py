"""What /run and /runsync accept, and how they say no (wire.md 2)."""

import json
import re

import pytest

from tests.api.client import emulated

pytestmark = pytest.mark.anyio

UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
WEEK_MS = 604_800_000


async def whole_job(job):
    return job


@pytest.fixture
async def queue():
    """An endpoint without workers: what is accepted stays in the queue."""
    async with emulated(workers_max=0) as client:
        yield client


async def test_run_answers_at_once_with_an_id(queue):
    response = await queue.post("/run", json={"input": {"prompt": "hi"}})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["id", "status"]
    assert re.fullmatch(f"{UUID4}-u1", body["id"])
    assert body["status"] == "IN_QUEUE"


async def test_run_says_in_queue_even_when_a_worker_takes_the_job_at_once():
    async with emulated(workers_min=1) as client:
        await client.clock.settle()
        response = await client.post("/run", json={"input": {"mock_delay": 1}})
        assert response.json()["status"] == "IN_QUEUE"
        assert (await client.status(response.json()["id"]))["status"] == "IN_PROGRESS"


async def test_runsync_answers_with_the_whole_body():
    async with emulated() as client:
        response = await client.post("/runsync", json={"input": {"mock_return": {"n": 1}}})
        assert response.status_code == 200
        body = response.json()
        assert list(body) == ["delayTime", "executionTime", "id", "output", "status", "workerId"]
        assert re.fullmatch(f"sync-{UUID4}-u1", body["id"])
        assert (body["status"], body["output"]) == ("COMPLETED", {"n": 1})
        assert re.fullmatch("[a-z0-9]{14}", body["workerId"])


async def test_every_job_has_an_id_of_its_own(queue):
    assert len({await queue.run() for _ in range(50)}) == 50


@pytest.mark.parametrize("operation", ["/run", "/runsync"])
@pytest.mark.parametrize("body", ["{}", '{"input": null}', '{"inputs": {"a": 1}}', '{"policy": {}}'])
async def test_no_input_is_refused(queue, operation, body):
    response = await queue.post(operation, content=body)
    assert response.status_code == 400
    assert response.json()["detail"].startswith("bad request: input: missing or null: send a JSON object")
    assert (await queue.jobs())["inQueue"] == 0


@pytest.mark.parametrize("value", [0, False, "", [], [1], 3.5, "text", True, {"a": {}}])
async def test_any_other_json_value_is_an_input(value):
    async with emulated(whole_job) as client:
        body = await client.runsync(value)
        assert (body["status"], body["output"]["input"]) == ("COMPLETED", value)


@pytest.mark.parametrize(
    ("policy", "field", "value", "rule"),
    [
        (
            {"executionTimeout": 4_999},
            "policy.executionTimeout",
            "4999",
            "at least 5000 and at most 604800000",
        ),
        ({"executionTimeout": 0}, "policy.executionTimeout", "0", "at least 5000"),
        ({"executionTimeout": -1}, "policy.executionTimeout", "-1", "at least 5000"),
        ({"executionTimeout": "60000"}, "policy.executionTimeout", "'60000'", "must be an integer"),
        ({"executionTimeout": 6000.5}, "policy.executionTimeout", "6000.5", "must be an integer"),
        ({"executionTimeout": True}, "policy.executionTimeout", "True", "must be an integer"),
        ({"ttl": 9_999}, "policy.ttl", "9999", "from 10000 to 604800000"),
        ({"ttl": WEEK_MS + 1}, "policy.ttl", "604800001", "from 10000 to 604800000"),
        ({"ttl": "1h"}, "policy.ttl", "'1h'", "must be an integer of milliseconds"),
        ({"ttl": [60_000]}, "policy.ttl", "[60000]", "must be an integer of milliseconds"),
        ({"lowPriority": "yes"}, "policy.lowPriority", "'yes'", "must be true or false"),
        ({"lowPriority": 1}, "policy.lowPriority", "1", "must be true or false"),
        ([1], "policy", "[1]", "is not an object"),
        ("low", "policy", "'low'", "is not an object"),
    ],
)
async def test_a_policy_out_of_bounds_is_refused(queue, policy, field, value, rule):
    response = await queue.post("/run", json={"input": 1, "policy": policy})
    assert response.status_code == 400
    detail = response.json()["detail"]
    assert detail.startswith(f"bad request: {field}: {value} ")
    assert rule in detail
    assert (await queue.jobs())["inQueue"] == 0


@pytest.mark.parametrize(
    "policy",
    [
        None,
        {},
        {"executionTimeout": 5_000},
        {"executionTimeout": WEEK_MS},
        {"executionTimeout": WEEK_MS + 1},
        {"executionTimeout": None, "ttl": None, "lowPriority": None},
        {"ttl": 10_000},
        {"ttl": WEEK_MS},
        {"lowPriority": True},
        {"lowPriority": False, "something": "new"},
    ],
)
async def test_a_policy_within_bounds_is_accepted(queue, policy):
    assert (await queue.status(await queue.run(policy=policy)))["status"] == "IN_QUEUE"


@pytest.mark.parametrize(
    ("policy", "limit_ms"), [({}, 600_000), ({"executionTimeout": 5_001}, 5_001), (None, 600_000)]
)
async def test_execution_timeout_has_a_default_and_holds_to_the_millisecond(policy, limit_ms):
    async with emulated() as client:
        job_id = await client.run({"mock_delay": 1_000}, policy=policy)
        await client.clock.advance(limit_ms - 1)
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"
        await client.clock.advance(1)
        assert (await client.status(job_id))["error"] == "executionTimeout exceeded"


@pytest.mark.parametrize(
    ("query", "policy", "ttl_ms"),
    [
        ("", {}, 86_400_000),
        ("", {"ttl": 10_000}, 10_000),
        ("?ttl=10000", {}, 10_000),
        (f"?ttl={WEEK_MS}", {}, WEEK_MS),
        ("?ttl=60000", {"ttl": 20_000}, 20_000),
    ],
)
@pytest.mark.parametrize("operation", ["/run", "/runsync"])
async def test_ttl_comes_from_the_policy_the_url_or_the_default(queue, operation, query, policy, ttl_ms):
    asked = await queue.begin("POST", operation + query, json={"input": 1, "policy": policy})
    [job], _ = queue.emulator.endpoint("ep").list_jobs(offset=0, limit=2)
    await queue.clock.advance(ttl_ms - 1)
    assert (await queue.status(job.id))["status"] == "IN_QUEUE"
    await queue.clock.advance(1)
    assert await queue.is_gone(job.id)
    assert (await asked).status_code == 200


@pytest.mark.parametrize("ttl", ["9999", "604800001", "1h", "", "1e5", "-10000", "10000.0", "9" * 30])
async def test_a_ttl_on_the_url_out_of_bounds_is_refused(queue, ttl):
    response = await queue.post(f"/run?ttl={ttl}", json={"input": 1})
    assert response.status_code == 400
    detail = response.json()["detail"]
    assert detail.startswith("bad request: ?ttl: ")
    assert ttl in detail
    assert detail.endswith("must be an integer of milliseconds from 10000 to 604800000")


async def test_execution_timeout_of_the_endpoint_is_the_default():
    async with emulated(execution_timeout_ms=7_000) as client:
        job_id = await client.run({"mock_delay": 60})
        await client.clock.advance(7_000)
        assert (await client.status(job_id))["error"] == "executionTimeout exceeded"


@pytest.mark.parametrize(
    ("query", "wait_ms"), [("", 90_000), ("?wait=1000", 1_000), ("?wait=300000", 300_000)]
)
async def test_runsync_answers_after_its_wait_and_the_job_goes_on(query, wait_ms):
    async with emulated() as client:
        asked = await client.begin("POST", f"/runsync{query}", json={"input": {"mock_delay": 400}})
        await client.clock.advance(wait_ms - 1)
        assert not asked.done()
        await client.clock.advance(1)
        response = await asked
        assert response.status_code == 200
        body = response.json()
        assert list(body) == ["delayTime", "id", "status", "workerId"]
        assert body["status"] == "IN_PROGRESS"
        await client.clock.advance(400_000 - wait_ms)
        assert (await client.status(body["id"]))["status"] == "COMPLETED"


async def test_runsync_of_a_job_that_still_waits_says_in_queue(queue):
    asked = await queue.begin("POST", "/runsync?wait=1000", json={"input": 1})
    await queue.clock.advance(1_000)
    body = (await asked).json()
    assert list(body) == ["id", "status"]
    assert body["status"] == "IN_QUEUE"


@pytest.mark.parametrize("wait", ["999", "300001", "0", "-1", "soon", "", "1000.5", "9" * 40])
async def test_a_wait_out_of_bounds_is_refused_and_nothing_is_queued(queue, wait):
    response = await queue.post(f"/runsync?wait={wait}", json={"input": 1})
    assert response.status_code == 400
    assert response.json()["detail"] == (
        f"bad request: ?wait: {wait!r} must be an integer from 1000 to 300000"
    )
    assert (await queue.jobs())["inQueue"] == 0


@pytest.mark.parametrize(
    "webhook", ["http://127.0.0.1:9/hook", "https://example.com", "HTTPS://E.com/?a=b", None, ""]
)
async def test_a_webhook_may_be_http_or_https(queue, webhook):
    assert await queue.run(webhook=webhook)


@pytest.mark.parametrize(
    "webhook",
    [
        "ftp://example.com",
        "example.com/hook",
        "/hook",
        "http://",
        "http:// a",
        "http://h:99999/",
        "file:///etc",
        "http://a/\n",
        "javascript:alert(1)",
        7,
        True,
        ["http://a"],
        {"url": "http://a"},
    ],
)
async def test_any_other_webhook_is_refused(queue, webhook):
    response = await queue.post("/run", json={"input": 1, "webhook": webhook})
    assert response.status_code == 400
    assert response.json()["detail"] == (
        f"bad request: webhook: {webhook!r} must be a URL like https://example.com/hook (http or https)"
    )


async def test_s3_config_reaches_the_handler_and_is_shown_nowhere(caplog):
    caplog.set_level("DEBUG", "emulator")
    secret = {
        "accessId": "id-5e7", "accessSecret": "s3cr3t-5e7", "bucketName": "b", "endpointUrl": "http://s3.test",
    }  # fmt: skip

    async def handler(job):
        assert job["s3Config"] == secret
        return "uploaded"

    async with emulated(handler) as client:
        body = await client.runsync({"a": 1}, s3Config=secret)
        assert (body["status"], body["output"]) == ("COMPLETED", "uploaded")
        listed = await client.get("/requests")
        assert "5e7" not in str(body) + listed.text
    assert "COMPLETED" in caplog.text
    assert "5e7" not in caplog.text


async def test_all_that_was_sent_is_handed_on_with_the_id():
    sent = {
        "input": {"a": 1},
        "webhookV2": "http://127.0.0.1:9/v2",
        "policy": {"ttl": 60_000, "custom": [1]},
        "anything": {"else": None},
    }
    async with emulated(whole_job) as client:
        body = await client.runsync(**sent)
        assert body["output"] == {**sent, "id": body["id"]}


async def test_an_id_that_was_sent_does_not_replace_the_jobs():
    async with emulated(whole_job) as client:
        body = await client.runsync({"a": 1}, id="mine")
        assert body["id"] != "mine"
        assert body["output"]["id"] == body["id"]


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"webHook": "http://a"}, "webHook has no effect: did you mean webhook?"),
        ({"webhook_url": "http://a"}, "webhook_url has no effect: did you mean webhook?"),
        ({"callbackUrl": "http://a"}, "callbackUrl has no effect: did you mean webhook?"),
        ({"timeout": 5}, "timeout has no effect: did you mean policy.executionTimeout?"),
        ({"polcy": {"ttl": 60_000}}, "polcy has no effect: did you mean policy?"),
        ({"s3_config": {}}, "s3_config has no effect: did you mean s3Config?"),
        (
            {"executionTimeout": 60_000},
            "executionTimeout has no effect: did you mean policy.executionTimeout?",
        ),
        (
            {"policy": {"execution_timeout": 1}},
            "policy.execution_timeout has no effect: did you mean policy.executionTimeout?",
        ),
        (
            {"policy": {"lowpriority": True}},
            "policy.lowpriority has no effect: did you mean policy.lowPriority?",
        ),
    ],
)
async def test_the_log_suggests_the_key_that_was_meant(queue, caplog, fields, hint):
    job_id = await queue.run(**fields)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"ep job {job_id}: {hint}"
    ]


async def test_a_key_that_is_handed_on_is_told_once_each(queue, caplog):
    job_id = await queue.run(metadata={"user": 1}, policy={"region": "EU"})
    await queue.run(metadata={"user": 2}, policy={"region": "EU"})
    [told] = caplog.messages
    assert told.startswith(f"ep job {job_id}: metadata beside input is handed on: the handler finds it as")
    assert "documents of 2023 to 2025 said that such a key is dropped" in told
    other = await queue.run(metadata=1, user_id=7)
    assert caplog.messages[1].startswith(f"ep job {other}: user_id beside input is handed on")


async def test_what_stands_inside_the_input_and_belongs_beside_it_is_told(queue, caplog):
    job_id = await queue.run({"webhook": "http://a", "policy": {"ttl": 1}, "executionTimeout": 9_000})
    await queue.run({"webhook": "http://a"}, webhook="http://127.0.0.1:9/")
    assert caplog.messages == [
        f"ep job {job_id}: input.{key} is for the handler alone: the endpoint looks for {place} beside input"
        for key, place in [
            ("executionTimeout", "policy.executionTimeout"), ("policy", "policy"), ("webhook", "webhook"),
        ]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"input": {}}, "the input is {}"),
        ({"input": None}, "the input is missing or null"),
        ({"webhook": None}, "the input is missing or null"),
    ],
    ids=str,
)
async def test_an_empty_input_never_reaches_the_handler_and_ends_failed(caplog, body, told):
    calls = []
    # `{}` is taken in any case.
    accepting = {} if body.get("input") == {} else {"missing_input": "accept"}
    async with emulated(lambda job: calls.append(job), **accepting) as client:
        job_id = (await client.post("/run", json=body)).json()["id"]
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        [warning] = [each for each in warnings if told in each]
        assert "job timed out after 1 retries" in warning
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"
        await client.clock.advance(40_000)
        assert (await client.jobs())["retried"] == 1
        await client.clock.advance(40_000)
        body = await client.status(job_id)
        assert (body["status"], body["error"]) == ("FAILED", "job timed out after 1 retries")
        assert body["retries"] == 1
        assert "output" not in body
    assert calls == []


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_worker_that_takes_by_batch_runs_an_empty_input_as_a_job_without_one(tmp_path, kind):
    script = tmp_path / "by_batch.py"
    script.write_text(
        "import runpod\n"
        f"{'async ' * (kind == 'async')}def handler(job):\n"
        "    return sorted(job) if 'webhook' in job else job['input']\n"
        "runpod.serverless.start({'handler': handler, 'concurrency_modifier': lambda now: 2})\n"
    )
    async with emulated(str(script)) as client:
        body = await client.runsync({}, webhook="http://127.0.0.1:9/")
        assert (body["status"], body["output"]) == ("COMPLETED", ["id", "webhook"])
        body = await client.runsync({})
        assert (body["status"], json.loads(body["error"])["error_message"]) == ("FAILED", "'input'")


async def test_a_missing_input_that_is_accepted_is_told_to_webhook_and_console_as_null(tmp_path):
    script = tmp_path / "by_batch.py"
    script.write_text(
        "import runpod\nrunpod.serverless.start({'handler': sorted, 'concurrency_modifier': lambda now: 2})\n"
    )
    async with emulated(str(script), missing_input="accept") as client:
        hook = {"webhook": "http://127.0.0.1:9/"}
        body = (await client.post("/runsync", json=hook)).json()
        assert (body["status"], body["output"]) == ("COMPLETED", ["id", "webhook"])
        listed = await client.http.get("/_emulator/jobs/list")
        assert listed.json()["jobs"][0]["preview"] == "null"
        [delivery] = (await client.http.get("/_emulator/webhooks")).json()["webhooks"]
        sent = (await client.http.get(f"/_emulator/webhooks/{delivery['id']}")).json()["body"]
        assert sent["input"] is None
        again = await client.http.post(f"/_emulator/jobs/{body['id']}/run-again", json={})
        assert again.status_code == 200


async def test_an_empty_input_of_runsync_is_waited_for_to_its_end():
    async with emulated() as client:
        asked = await client.begin("POST", "/runsync", json={"input": {}})
        await client.clock.advance(80_000)
        assert (await asked).json()["error"] == "job timed out after 1 retries"
