"""The worker's side over HTTP, by a worker that nobody here has started (wire.md 7)."""

import asyncio
import json
import logging

import pytest

from tests.api.client import emulated, secret_of, served

pytestmark = pytest.mark.anyio

JOB = {"prompt": "hi", "big": 2**70, "text": "żółć 🚀"}


def external(**config):
    """An endpoint that has only the workers that come."""
    return emulated(worker_kind="external", **config)


async def take(client, worker="w1", query="?gpu=none&job_in_progress=0"):
    return await client.get(f"/job-take/{worker}{query}")


async def take_one(client, worker="w1", **options):
    answer = await take(client, worker, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def done(client, job_id, body, worker="w1", query="?gpu=none&isStream=false"):
    text = body if isinstance(body, str) else json.dumps(body)
    return await client.post(
        f"/job-done/{worker}/{job_id}{query}",
        content=text,
        headers={"content-type": "application/x-www-form-urlencoded", "x-request-id": "stale"},
    )


# Taking


async def test_a_worker_registers_by_its_first_take_and_gets_the_job_as_it_was_sent():
    async with external() as client:
        fields = {"webhook": "http://127.0.0.1:1/x", "s3Config": {"accessId": "a"}, "own": [1]}
        job_id = await client.run(JOB, policy={"ttl": 20_000}, **fields)
        assert await client.workers() == {}
        assert await take_one(client) == {
            "id": job_id, "input": JOB, "policy": {"ttl": 20_000}, **fields
        }  # fmt: skip
        assert await client.workers() == {"running": 1}
        body = await client.status(job_id)
        assert (body["status"], body["workerId"]) == ("IN_PROGRESS", "w1")


async def test_a_take_is_held_until_a_job_comes():
    async with external() as client:
        waiting = await client.begin("GET", "/job-take/w1?gpu=none&job_in_progress=0")
        await client.clock.advance(59_000)
        assert not waiting.done()
        assert await client.workers() == {"idle": 1}
        job_id = await client.run()
        assert (await waiting).json()["id"] == job_id


async def test_a_take_ends_without_a_job_before_the_sdk_gives_up():
    async with external() as client:
        waiting = await client.begin("GET", "/job-take/w1?gpu=none&job_in_progress=0")
        await client.clock.advance(60_000)
        answer = await waiting
        assert (answer.status_code, answer.content) == (204, b"")
        assert "content-length" not in answer.headers


async def test_a_batch_brings_as_many_as_it_asks_for():
    async with external() as client:
        ids = [await client.run(n) for n in range(5)]
        answer = await client.get("/job-take-batch/w1?gpu=none&batch_size=3&job_in_progress=0")
        assert [job["id"] for job in answer.json()] == ids[:3]
        answer = await client.get("/job-take-batch/w1?gpu=none&batch_size=9&job_in_progress=1")
        assert [job["id"] for job in answer.json()] == ids[3:]


@pytest.mark.parametrize("size", ["", "x", "0", "-1", "1.5"])
async def test_a_batch_of_no_size_is_one_job(size):
    async with external() as client:
        ids = [await client.run(n) for n in range(2)]
        answer = await client.get(f"/job-take-batch/w1?batch_size={size}&job_in_progress=0")
        assert [job["id"] for job in answer.json()] == ids[:1]


@pytest.mark.parametrize("size", ["9" * 10, "9" * 5_000])
async def test_a_batch_of_any_size_is_what_there_is(size):
    async with external() as client:
        ids = [await client.run(n) for n in range(2)]
        answer = await client.get(f"/job-take-batch/w1?batch_size={size}&job_in_progress=0")
        assert [job["id"] for job in answer.json()] == ids


@pytest.mark.parametrize("prefix", ["/v2/ep", ""])
async def test_urls_without_a_question_mark_mean_the_same(prefix):
    async with external(prefix=prefix) as client:
        ids = [await client.run(n) for n in range(3)]
        jobs = (await client.get("/job-take-batch/w1&batch_size=2&job_in_progress=0")).json()
        assert [job["id"] for job in jobs] == ids[:2]
        for job_id in ids[:2]:
            assert (await done(client, job_id, {"output": 1}, query="&isStream=false")).status_code == 200
        assert (await take_one(client, query="&job_in_progress=0"))["id"] == ids[2]
        assert (await client.get("/ping/w1?job_id=" + ids[2])).status_code == 200
        assert (await client.workers())["running"] == 1
        assert (await client.status(ids[0]))["output"] == 1


async def test_a_worker_that_asks_without_its_result_has_lost_the_job():
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        assert (await take_one(client))["id"] == job_id
        await client.begin("GET", "/job-take/w1?job_in_progress=0")
        body = await client.status(job_id)
        assert (body["status"], body["error"]) == ("FAILED", "job timed out after 1 retries")
        assert body["retries"] == 1


async def test_a_take_that_says_it_holds_jobs_loses_none():
    async with external() as client:
        first, second = await client.run(1), await client.run(2)
        await take_one(client)
        assert (await take_one(client, query="?job_in_progress=1"))["id"] == second
        assert (await client.status(first))["status"] == "IN_PROGRESS"


async def test_takes_that_cross_lose_no_job_of_a_worker_that_asks_for_several_at_once():
    """SDK 1.6: two takes are sent before either is answered, both by a worker that had nothing just then."""
    async with external() as client:
        ids = [await client.run(n) for n in range(4)]
        await take_one(client)
        await take_one(client, query="?job_in_progress=1")
        for job_id in ids[2:]:
            assert (await take_one(client))["id"] == job_id
        assert [(await client.status(job_id))["status"] for job_id in ids] == ["IN_PROGRESS"] * 4


@pytest.mark.parametrize("left", ["$ID", "$RUNPOD_POD_ID"])
async def test_a_variable_that_was_left_in_a_url_means_the_worker_that_holds_the_job(left):
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        assert (await client.get(f"/ping/{left}?job_id={job_id}")).status_code == 200
        answer = await client.post(f"/job-done/{left}/{job_id}?isStream=false", json={"output": 5})
        assert answer.status_code == 200
        body = await client.status(job_id)
        assert (body["status"], body["output"], body["workerId"]) == ("COMPLETED", 5, "w1")


async def test_a_worker_named_by_a_variable_that_was_left_is_told_of(caplog):
    async with external() as client:
        await client.run()
        assert (await client.get("/job-take/$ID?job_in_progress=0")).status_code == 200
        assert "still has $ID: put the worker's id in its place" in caplog.text


@pytest.mark.parametrize("calls_again", [False, True])
async def test_a_worker_that_has_hung_up_is_missed_though_it_goes_on_pinging(calls_again):
    async with served(worker_kind="external") as client:
        job_id = await client.run()
        await take_one(client)
        poll = await client.begin("GET", "/job-stop/w1?gpu=none")
        poll.cancel()
        await asyncio.wait([poll])
        worker = client.emulator.endpoint("ep").pool.get("w1")
        while not worker.hung_up:
            # Until the server has heard of it.
            assert await client.workers() == {"running": 1}
        if calls_again:
            poll = await client.begin("GET", "/job-stop/w1?gpu=none")
            while worker.hung_up:
                assert await client.workers() == {"running": 1}
        for _ in range(5):
            await client.get(f"/ping/w1?job_id={job_id}")
            await client.clock.advance(10_000)
        body = await client.status(job_id)
        assert body["status"] == ("IN_PROGRESS" if calls_again else "IN_QUEUE")
        poll.cancel()
        await asyncio.wait([poll])


async def test_a_connection_that_breaks_during_a_poll_loses_no_job():
    async with served(worker_kind="external") as client:
        first = await client.begin("GET", "/job-take/w1?job_in_progress=0")
        while await client.workers() != {"idle": 1}:
            assert not first.done()
        first.cancel()
        await asyncio.wait([first])
        job_id = await client.run()
        assert (await take_one(client, "w2"))["id"] == job_id


# Results


async def test_the_end_of_a_job_comes_as_a_form_with_json_in_it():
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        await client.clock.advance(250)
        assert (await done(client, job_id, {"output": JOB})).status_code == 200
        assert await client.status(job_id) == {
            "delayTime": 0, "executionTime": 250, "id": job_id, "output": JOB,
            "status": "COMPLETED", "workerId": "w1",
        }  # fmt: skip
        assert await client.workers() == {"idle": 1}


THEN_TAKE = "?gpu=none&isStream=false&then_take=1"


async def test_a_runner_of_ours_gets_its_next_job_with_the_answer_to_a_result():
    async with served(worker_kind="external") as client:
        first, second = await client.run(1), await client.run(2)
        await take_one(client)
        answer = await done(client, first, {"output": 1}, query=THEN_TAKE)
        assert (answer.status_code, answer.json()) == (200, {"id": second, "input": 2})
        body = await client.status(second)
        assert (body["status"], body["workerId"]) == ("IN_PROGRESS", "w1")
        assert (await done(client, second, {"output": 2}, query=THEN_TAKE)).json() == {}
        assert await client.workers() == {"idle": 1}


async def test_it_gets_none_of_which_a_fault_may_have_it_lose_the_call():
    async with served(worker_kind="external") as client:
        first, second = await client.run(1), await client.run(2)
        await take_one(client)
        fault = {"match": {"operation": "job-take"}, "times": 1, "then": {"status": 503}}
        ordered = await client.http.post("/_emulator/faults", json=fault)
        assert ordered.status_code in (200, 201), ordered.text
        assert (await done(client, first, {"output": 1}, query=THEN_TAKE)).json() == {}
        assert (await take(client)).status_code == 503
        assert (await take_one(client))["id"] == second


async def test_it_gets_none_while_it_is_to_get_none():
    async with served(worker_kind="external") as client:
        first, second = await client.run(1), await client.run(2)
        await take_one(client)
        worker = client.emulator.endpoint("ep").pool.get("w1")
        client.emulator.endpoint("ep").pool.pause(worker, "is paused")
        assert (await done(client, first, {"output": 1}, query=THEN_TAKE)).json() == {}
        assert (await client.status(second))["status"] == "IN_QUEUE"


async def test_a_result_that_is_refused_brings_no_job():
    async with served(worker_kind="external", result_limit_mib=1) as client:
        first, second = await client.run(1), await client.run(2)
        await take_one(client)
        answer = await done(client, first, {"output": "x" * 1_100_000}, query=THEN_TAKE)
        assert answer.status_code == 400
        assert (await client.status(second))["status"] == "IN_QUEUE"
        assert (await take_one(client))["id"] == second


async def test_the_same_end_may_come_again_and_changes_nothing():
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        for output in (1, 1, 2):
            assert (await done(client, job_id, {"output": output})).status_code == 200
        assert (await client.status(job_id))["output"] == 1
        assert (await client.jobs())["completed"] == 1


@pytest.mark.parametrize(
    ("sent", "ended"),
    [
        ({"output": None}, {"status": "COMPLETED", "output": None}),
        ({}, {"status": "COMPLETED"}),
        ({"output": []}, {"status": "COMPLETED", "output": []}),
        ({"error": "bad"}, {"status": "FAILED", "error": "bad"}),
        (
            {"output": {"extra": 1}, "error": "bad"},
            {"status": "FAILED", "error": "bad", "output": {"extra": 1}},
        ),
        ({"error": {"code": 7}}, {"status": "FAILED", "error": '{"code":7}'}),
        ({"output": 1, "error": ""}, {"status": "COMPLETED", "output": 1}),
    ],
)
async def test_what_a_worker_says_is_what_a_client_reads(sent, ended):
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        assert (await done(client, job_id, sent)).status_code == 200
        body = await client.status(job_id)
        assert {key: body[key] for key in body if key in ("status", "output", "error")} == ended


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"output": {"a": [1, NaN]}}', "output['a'][1] is nan, which JSON cannot express"),
        ('{"output": 1e999}', "output is inf, which JSON cannot express"),
        ('{"error": {"score": -Infinity}}', "error['score'] is -inf, which JSON cannot express"),
        ("output=1", "the worker's result was refused: bad request: body: not valid JSON"),
        ("[1]", "the worker's result was refused: bad request: body: must be a JSON object"),
    ],
)
async def test_a_result_that_is_not_json_is_refused_and_fails_the_job_at_once(text, error):
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        assert (await done(client, job_id, text)).status_code == 400
        body = await client.status(job_id)
        assert body["status"] == "FAILED"
        assert body["error"].startswith(error)
        assert await client.workers() == {"idle": 1}


async def test_progress_is_seen_at_once_and_is_not_the_end():
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        await client.clock.advance(100)
        await done(client, job_id, {"status": "IN_PROGRESS", "output": {"step": 1}})
        body = await client.status(job_id)
        assert (body["status"], body["output"], body["executionTime"]) == ("IN_PROGRESS", {"step": 1}, 100)
        await done(client, job_id, {"output": "end"})
        await done(client, job_id, {"status": "IN_PROGRESS", "output": "late"})
        assert (await client.status(job_id))["output"] == "end"


async def test_chunks_come_through_the_stream_and_its_end_by_the_result():
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        for n in range(3):
            answer = await client.post(
                f"/job-stream/w1/{job_id}?gpu=none&isStream=false", content=json.dumps({"output": {"n": n}})
            )
            assert answer.status_code == 200
        refused = await client.post(f"/job-stream/w1/{job_id}?isStream=false", content='{"output": NaN}')
        assert refused.status_code == 400
        assert (await client.get(f"/stream/{job_id}")).json() == {
            "status": "IN_PROGRESS", "stream": [{"output": {"n": n}} for n in range(3)]
        }  # fmt: skip
        await done(client, job_id, {"output": []}, query="?isStream=true")
        assert (await client.get(f"/stream/{job_id}")).json() == {"status": "COMPLETED", "stream": []}


async def test_what_comes_for_a_job_of_another_worker_is_dropped_and_said(caplog):
    caplog.set_level(logging.INFO, "emulator")
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        assert (await done(client, job_id, {"output": "no"}, worker="w2")).status_code == 200
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"
        assert f"a late result for job {job_id} was dropped" in caplog.text


async def test_a_worker_from_elsewhere_that_wants_to_be_replaced_goes_on(caplog):
    async with external() as client:
        first, second = await client.run(1), await client.run(2)
        await take_one(client)
        await done(client, first, {"output": 1, "stopPod": True})
        assert "it asked to be replaced (refresh_worker)" in caplog.text
        assert (await take_one(client))["id"] == second


# Stopping


async def test_a_worker_hears_at_once_which_job_to_stop():
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        waiting = await client.begin("GET", "/job-stop/w1?gpu=none")
        assert not waiting.done()
        await client.post(f"/cancel/{job_id}")
        assert (await waiting).json() == {"jobsToStop": [job_id]}
        assert await client.workers() == {"running": 1}
        await client.begin("GET", "/job-take/w1?job_in_progress=0")
        assert await client.workers() == {"idle": 1}


@pytest.mark.parametrize("why", ["ttl", "executionTimeout"])
async def test_time_stops_a_job_too(why):
    async with external() as client:
        job_id = await client.run(policy={why: 10_000})
        await take_one(client)
        waiting = await client.begin("GET", "/job-stop/w1?gpu=none")
        await client.clock.advance(10_000)
        assert (await waiting).json() == {"jobsToStop": [job_id]}


async def test_a_stop_poll_ends_without_a_signal_before_the_sdk_gives_up():
    async with external() as client:
        await client.begin("GET", "/job-take/w1?job_in_progress=0")
        waiting = await client.begin("GET", "/job-stop/w1?gpu=none")
        await client.clock.advance(60_000)
        assert (await waiting).status_code == 204


async def test_a_worker_without_a_stop_poll_works_all_the_same():
    """Older SDKs have none: the job is over for the client, the worker takes its time."""
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        await client.post(f"/cancel/{job_id}")
        await client.clock.advance(30_000)
        assert (await done(client, job_id, {"output": "late"})).status_code == 200
        assert (await client.status(job_id))["status"] == "CANCELLED"
        second = await client.run()
        assert (await take_one(client))["id"] == second


async def test_a_worker_from_elsewhere_that_does_not_let_go_is_left_alone_and_told_of(caplog):
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        await client.get(f"/ping/w1?job_id={job_id}")
        await client.post(f"/cancel/{job_id}")
        await client.clock.advance(3_000)
        assert f"did not let go of job {job_id} within 3000 ms" in caplog.text
        assert "it can only be ended where it was started" in caplog.text
        assert await client.workers() == {"running": 1}
        await client.get("/ping/w1?runpod_version=1.12.0")
        assert await client.workers() == {"idle": 1}


# Heartbeats


async def test_a_worker_that_falls_silent_is_lost_with_its_job():
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        for _ in range(3):
            await client.clock.advance(30_000)
            await client.get(f"/ping/w1?gpu=none&job_id={job_id}&runpod_version=1.12.0")
        await client.clock.advance(39_999)
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"
        await client.clock.advance(1)
        assert (await client.status(job_id))["status"] == "IN_QUEUE"
        assert await client.workers() == {}
        assert (await take_one(client, "w2"))["id"] == job_id
        await done(client, job_id, {"output": 1}, worker="w2")
        assert (await client.status(job_id))["retries"] == 1


async def test_a_worker_that_waits_for_a_job_is_not_missed():
    async with external() as client:
        for _ in range(5):
            waiting = await client.begin("GET", "/job-take/w1?job_in_progress=0")
            await client.clock.advance(60_000)
            assert (await waiting).status_code == 204
        assert await client.workers() == {"idle": 1}
        await client.clock.advance(40_000)
        assert await client.workers() == {}


async def test_a_job_that_two_heartbeats_do_not_name_is_lost_unless_it_has_just_been_delivered():
    async with external() as client:
        job_id = await client.run()
        await take_one(client)
        for _ in range(3):
            await client.get("/ping/w1?gpu=none")
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"
        await client.clock.advance(10_000)
        await client.get("/ping/w1?gpu=none")
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"
        await client.get("/ping/w1?gpu=none")
        assert (await client.status(job_id))["status"] == "IN_QUEUE"


async def test_a_heartbeat_before_the_first_take_registers_nobody():
    async with external() as client:
        assert (await client.get("/ping/w1?gpu=none")).status_code == 200
        assert (await client.get("/job-stop/w1?gpu=none")).status_code == 204
        assert await client.workers() == {}


async def test_a_worker_that_says_it_is_unfit_is_unhealthy_until_it_takes_again(caplog):
    async with external() as client:
        await client.begin("GET", "/job-take/w1?job_in_progress=0")
        await client.get("/ping/w1?status=unhealthy&check=gpu&reason=no+CUDA&runpod_version=1.12.0")
        assert await client.workers() == {"unhealthy": 1}
        assert "fitness check 'gpu' failed: no CUDA" in caplog.text
        await client.begin("GET", "/job-take/w1?job_in_progress=0")
        assert await client.workers() == {"idle": 1}


# Who may


async def test_a_worker_needs_a_key_that_passes():
    async with emulated(worker_kind="external", options={"api_keys": ["right"]}) as client:
        wrong = await client.get("/job-take/w1?job_in_progress=0", headers={"authorization": "wrong"})
        assert (wrong.status_code, wrong.json()["detail"][:15]) == (401, "invalid api key")
        await client.post("/run", json={"input": 1}, headers={"authorization": "right"})
        bare = await client.get("/job-take/w1?job_in_progress=0", headers={"authorization": "right"})
        assert bare.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/job-take/w1", 405),
        ("GET", "/job-done/w1/j1", 405),
        ("GET", "/job-take", 404),
        ("GET", "/job-take/w1/more", 404),
        ("POST", "/job-done/w1", 404),
        ("GET", "/job-take/?job_in_progress=0", 400),
        ("GET", f"/job-take/{'w' * 101}", 400),
        ("GET", "/job-take/%00", 400),
        ("POST", "/job-done/w1/unknown", 400),
    ],
)
async def test_a_call_that_means_nothing_is_refused(method, path, code):
    async with external() as client:
        answer = await client.http.request(method, client.prefix + path)
        assert answer.status_code == code
        assert answer.json()["detail"]
        assert await client.workers() == {}


async def test_an_unknown_endpoint_is_named():
    async with external(prefix="/v2/nothing") as client:
        answer = await take(client)
        assert (answer.status_code, answer.json()["detail"][:29]) == (404, "endpoint not found: 'nothing'")


async def test_a_worker_that_was_started_here_and_is_gone_gets_nothing_and_is_not_hurried():
    async with external() as client:
        secret = secret_of(client, "w1")
        waiting = await client.begin("GET", f"/job-take/w1?secret={secret}&job_in_progress=0")
        assert not waiting.done()
        await client.clock.advance(1_000)
        answer = await waiting
        assert (answer.status_code, answer.json()["detail"]) == (400, "worker is going away")
        assert await client.workers() == {}


async def test_workers_from_elsewhere_join_an_endpoint_that_has_its_own():
    async with emulated(lambda job: "ours", workers_max=1) as client:
        assert (await client.runsync())["output"] == "ours"
        waiting = await client.begin("GET", "/job-take/w1?job_in_progress=0")
        job_id = await client.run()
        assert (await waiting).json()["id"] == job_id
        assert await client.workers() == {"idle": 1, "running": 1}
        await client.clock.advance(8_000)
        assert await client.workers() == {"running": 1}


async def test_workers_from_elsewhere_are_forgotten_by_a_reset_and_come_again():
    async with external() as client:
        waiting = await client.begin("GET", "/job-take/w1?job_in_progress=0")
        await client.http.post("/_emulator/reset")
        assert (await waiting).status_code == 400
        assert await client.workers() == {}
        job_id = await client.run()
        assert (await take_one(client))["id"] == job_id
