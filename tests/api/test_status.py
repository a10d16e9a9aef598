"""A job as /status shows it: each row of the tables of wire.md 3."""

import asyncio
import json
import threading

import pytest

from emulator.workers.handler import Handler, HandlerKind
from emulator.workers.outcome import WorkerCrash
from emulator.workers.progress import REPORTS
from tests.api.client import emulated
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio

TERMINAL_KEYS = {"delayTime", "executionTime", "id", "status", "workerId"}


async def give(job):
    """Returns its input."""
    return job["input"]


async def ended_body(handler, job_input="hello", **config):
    async with emulated(handler, **config) as client:
        return await client.runsync(job_input)


async def crash(_job):
    raise WorkerCrash("its process is dead")


# What the handler did


@pytest.mark.parametrize(
    "value", [None, 0, False, "", "text", [], [1], {"a": 1}, {"status": "FAILED"}, {"error": None}]
)
async def test_what_is_returned_is_the_output(value):
    body = await ended_body(lambda _: value)
    wanted = {} if value == {"error": None} else value
    if isinstance(wanted, dict) and not wanted:
        # The SDK takes the key `error` out, and sends no output when nothing is left.
        assert set(body) == TERMINAL_KEYS
    else:
        assert set(body) == TERMINAL_KEYS | {"output"}
        assert body["output"] == wanted
    assert body["status"] == "COMPLETED"


async def test_a_returned_error_fails_the_job():
    body = await ended_body(give, {"error": "no GPU left"})
    assert set(body) == TERMINAL_KEYS | {"error"}
    assert (body["status"], body["error"]) == ("FAILED", "no GPU left")


async def test_what_stands_beside_a_returned_error_is_the_output():
    body = await ended_body(give, {"error": "half done", "done": 3, "refresh_worker": True})
    assert (body["status"], body["error"], body["output"]) == ("FAILED", "half done", {"done": 3})


@pytest.mark.parametrize("error", ["", None, 0, False, [], {}])
async def test_an_error_that_is_nothing_is_no_error(error):
    body = await ended_body(give, {"error": error, "a": 1})
    assert (body["status"], body["output"]) == ("COMPLETED", {"a": 1})


@pytest.mark.parametrize("error", [{"code": 7}, ["a", "b"], 7, True])
async def test_an_error_that_is_no_string_is_kept_as_json_and_warned_about(error, caplog):
    body = await ended_body(give, {"error": error})
    assert body["status"] == "FAILED"
    assert json.loads(body["error"]) == error
    assert f"the handler's error is a {type(error).__name__}, not a string" in caplog.text
    assert "production has been seen to report COMPLETED" in caplog.text


def raises(_job):
    raise KeyError("prompt")


async def raises_later(job):
    raises(job)


@pytest.mark.parametrize("handler", [raises, raises_later], ids=["sync", "async"])
async def test_an_exception_is_the_sdks_json(handler):
    body = await ended_body(handler)
    assert body["status"] == "FAILED"
    assert set(body) == TERMINAL_KEYS | {"error"}
    error = json.loads(body["error"])
    assert list(error) == [
        "error_type", "error_message", "error_traceback", "hostname", "worker_id", "runpod_version",
    ]  # fmt: skip
    assert error["error_type"] == "<class 'KeyError'>"
    assert error["error_message"] == "'prompt'"
    assert error["error_traceback"].startswith("Traceback (most recent call last):")
    assert "test_status.py" in error["error_traceback"]
    assert error["worker_id"] == body["workerId"]


async def test_an_exception_is_not_retried():
    calls = []

    def handler(job):
        calls.append(job["id"])
        raise ValueError("no")

    body = await ended_body(handler)
    assert "retries" not in body
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (b"bytes", "output is of type bytes, which JSON cannot express"),
        ({"image": {1, 2}}, "output['image'] is of type set, which JSON cannot express"),
        ([1.0, float("nan")], "output[1] is nan, which JSON cannot express"),
        ({"score": float("inf")}, "output['score'] is inf, which JSON cannot express"),
        ({"error": {"at": object}}, "error['at'] is of type type, which JSON cannot express"),
    ],
)
async def test_what_json_cannot_express_fails_the_job_with_its_name(value, sentence):
    body = await ended_body(lambda _: value)
    assert body["status"] == "FAILED"
    assert body["error"].startswith(sentence)


# What time and its worker did to it


async def test_a_queued_job_shows_its_state_alone():
    async with emulated(workers_max=0) as client:
        job_id = await client.run(webhook="http://127.0.0.1:9", policy={"ttl": 60_000})
        await client.clock.advance(1_500)
        assert await client.status(job_id) == {"id": job_id, "status": "IN_QUEUE"}


async def test_a_running_job_shows_its_delay_and_worker():
    async with emulated(cold_start_ms=824) as client:
        job_id = await client.run({"mock_delay": 10})
        await client.clock.advance(824)
        body = await client.status(job_id)
        assert list(body) == ["delayTime", "id", "status", "workerId"]
        assert (body["status"], body["delayTime"]) == ("IN_PROGRESS", 824)


async def test_times_are_whole_milliseconds_of_the_clock():
    async with emulated(cold_start_ms=824) as client:
        job_id = await client.run({"mock_delay": 3.391})
        await client.clock.advance(10_000)
        body = await client.status(job_id)
        assert (body["status"], body["delayTime"], body["executionTime"]) == ("COMPLETED", 824, 3_391)


async def test_neither_input_nor_webhook_are_shown():
    async with emulated() as client:
        job_id = await client.run({"mock_return": 1, "secret": "7f3"})
        assert set(await client.status(job_id)) == TERMINAL_KEYS | {"output"}
        assert "7f3" not in (await client.get("/requests")).text


async def test_progress_is_the_output_so_far():
    async with emulated() as client:
        job_id = await client.run({"mock_progress": ["10 %", {"step": 2}], "mock_delay": 20})
        body = await client.status(job_id)
        assert list(body) == ["delayTime", "executionTime", "id", "output", "status", "workerId"]
        assert (body["status"], body["output"], body["executionTime"]) == ("IN_PROGRESS", "10 %", 0)
        await client.clock.advance(12_000)
        body = await client.status(job_id)
        assert (body["status"], body["output"], body["executionTime"]) == ("IN_PROGRESS", {"step": 2}, 12_000)
        await client.clock.advance(8_000)
        body = await client.status(job_id)
        assert (body["status"], body["output"], body["executionTime"]) == (
            "COMPLETED",
            "Hello World!",
            20_000,
        )


async def test_progress_does_not_outlive_a_job_that_leaves_no_output():
    async with emulated() as client:
        job_id = await client.run({"mock_progress": "half", "mock_delay": 1, "mock_error": "broken"})
        await client.clock.advance(1_000)
        body = await client.status(job_id)
        assert body["status"] == "FAILED"
        assert "output" not in body


async def test_progress_and_results_that_come_late_change_nothing():
    started, release, reported = threading.Event(), threading.Event(), threading.Event()

    def held(job):
        started.set()
        release.wait(PATIENCE_S)
        try:
            # It ends here, if its worker has been given up by now.
            REPORTS.update(job, "late")
        finally:
            reported.set()
        return "late as well"

    handler = Handler(function=held, kind=HandlerKind.SYNC, name="held")
    async with emulated(handler) as client:
        job_id = await client.run()
        assert await asyncio.to_thread(started.wait, PATIENCE_S)
        cancelled = await client.post(f"/cancel/{job_id}")
        assert cancelled.json() == {"id": job_id, "status": "CANCELLED"}
        release.set()
        assert await asyncio.to_thread(reported.wait, PATIENCE_S)
        assert (await client.runsync())["output"] == "late as well"
        body = await client.status(job_id)
        assert body["status"] == "CANCELLED"
        assert "output" not in body


async def test_execution_timeout_fails_the_job_and_stops_the_handler():
    stopped = asyncio.Event()

    async def endless(_job):
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with emulated(endless) as client:
        job_id = await client.run(policy={"executionTimeout": 6_000})
        await client.clock.advance(5_999)
        assert not stopped.is_set()
        await client.clock.advance(1)
        body = await client.status(job_id)
        assert set(body) == TERMINAL_KEYS | {"error"}
        assert (body["status"], body["error"]) == ("FAILED", "executionTimeout exceeded")
        assert body["executionTime"] == 6_000
        assert stopped.is_set()


async def test_execution_timeout_does_not_count_the_queue():
    async with emulated(cold_start_ms=60_000) as client:
        job_id = await client.run({"mock_delay": 5}, policy={"executionTimeout": 6_000})
        await client.clock.advance(65_000)
        assert (await client.status(job_id))["status"] == "COMPLETED"


async def test_a_job_whose_worker_dies_is_queued_once_more_and_then_fails(caplog):
    async with emulated(crash, workers_max=1) as client:
        job_id = await client.run()
        assert await client.status(job_id) == {"id": job_id, "status": "IN_QUEUE"}
        assert await client.workers() == {"unhealthy": 1}
        assert (await client.jobs())["retried"] == 1
        await client.clock.advance(1_000)
        body = await client.status(job_id)
        assert set(body) == TERMINAL_KEYS | {"error", "retries"}
        assert (body["status"], body["error"]) == ("FAILED", "job timed out after 1 retries")
        assert body["retries"] == 1
        assert body["delayTime"] == 1_000
    assert "requeued: its process is dead" in caplog.text


async def test_a_job_that_is_queued_once_more_can_still_complete():
    attempts = []

    async def crash_once(job):
        attempts.append(job["id"])
        if len(attempts) == 1:
            raise WorkerCrash("dead")
        return len(attempts)

    async with emulated(crash_once) as client:
        job_id = await client.run()
        await client.clock.advance(4_000)
        body = await client.status(job_id)
        assert (body["status"], body["output"], body["retries"]) == ("COMPLETED", 2, 1)
    assert attempts == [job_id, job_id]


@pytest.mark.parametrize("config", [{"workers_max": 0}, {}], ids=["queued", "running"])
async def test_ttl_ends_a_job_for_whoever_waits_and_then_it_is_gone(config):
    async with emulated(**config) as client:
        asked = await client.begin(
            "POST", "/runsync", json={"input": {"mock_delay": 60}, "policy": {"ttl": 12_000}}
        )
        [job], _ = client.emulator.endpoint("ep").list_jobs(offset=0, limit=1)
        waiting = await client.begin("GET", f"/status-sync/{job.id}")
        reading = await client.begin("GET", f"/stream/{job.id}?wait=60000")
        await client.clock.advance(11_999)
        assert not asked.done()
        await client.clock.advance(1)
        body = (await asked).json()
        assert (body["id"], body["status"]) == (job.id, "TIMED_OUT")
        assert ("executionTime" in body) == (config == {})
        assert (await waiting).json() == body
        assert (await reading).json() == {"status": "TIMED_OUT", "stream": []}
        for path in ("status", "status-sync", "stream"):
            assert (await client.get(f"/{path}/{job.id}")).status_code == 404
        for path in ("cancel", "retry"):
            assert (await client.post(f"/{path}/{job.id}")).status_code == 404
        assert (await client.get("/requests")).json()["total"] == 0


async def test_ttl_stops_a_running_handler_at_once():
    stopped = asyncio.Event()

    async def endless(_job):
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with emulated(endless) as client:
        await client.run(policy={"ttl": 10_000})
        await client.clock.advance(9_999)
        assert not stopped.is_set()
        await client.clock.advance(1)
        assert stopped.is_set()
        assert await client.workers() == {"idle": 1}


async def test_ttl_counts_queueing_and_running_together():
    async with emulated(cold_start_ms=8_000) as client:
        job_id = await client.run({"mock_delay": 8}, policy={"ttl": 10_000})
        await client.clock.advance(9_999)
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"
        await client.clock.advance(1)
        assert await client.is_gone(job_id)


async def test_ttl_no_longer_matters_once_a_job_has_ended():
    async with emulated() as client:
        job_id = await client.run(policy={"ttl": 10_000})
        assert (await client.status(job_id))["status"] == "COMPLETED"
        await client.clock.advance(10_000)
        assert (await client.status(job_id))["status"] == "COMPLETED"


# How it is asked for, and how long it is kept


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_status_may_be_got_or_posted(method):
    async with emulated() as client:
        job_id = await client.run()
        await client.clock.settle()
        response = await client.http.request(
            method, f"/v2/ep/status/{job_id}", json={} if method == "POST" else None
        )
        assert response.json()["status"] == "COMPLETED"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("query", "wait_ms"), [("", 90_000), ("?wait=2000", 2_000), ("?wait=300000", 300_000)]
)
async def test_status_sync_waits_for_the_end_or_as_long_as_it_was_told(method, query, wait_ms):
    async with emulated() as client:
        job_id = await client.run({"mock_delay": 400})
        waiting = await client.begin(method, f"/status-sync/{job_id}{query}")
        await client.clock.advance(wait_ms - 1)
        assert not waiting.done()
        await client.clock.advance(1)
        assert (await waiting).json()["status"] == "IN_PROGRESS"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_status_sync_answers_as_soon_as_the_job_ends(method):
    async with emulated() as client:
        job_id = await client.run({"mock_delay": 30})
        waiting = [await client.begin(method, f"/status-sync/{job_id}") for _ in range(3)]
        await client.clock.advance(30_000)
        bodies = [(await task).json() for task in waiting]
        assert [body["status"] for body in bodies] == ["COMPLETED"] * 3
        assert await client.ended(job_id) == bodies[0]


@pytest.mark.parametrize("wait", ["999", "300001", "soon"])
async def test_status_sync_refuses_a_wait_out_of_bounds(wait):
    async with emulated(workers_max=0) as client:
        response = await client.get(f"/status-sync/{await client.run()}?wait={wait}")
        assert response.status_code == 400
        assert "?wait" in response.json()["detail"]


@pytest.mark.parametrize(("operation", "kept_ms"), [("/run", 1_800_000), ("/runsync", 60_000)])
@pytest.mark.parametrize("job_input", [{"mock_delay": 5}, {"mock_delay": 5, "mock_error": True}])
async def test_results_are_kept_for_a_while_from_the_end_of_the_job(operation, kept_ms, job_input):
    async with emulated() as client:
        asked = await client.begin("POST", operation, json={"input": job_input})
        await client.clock.advance(5_000)
        body = (await asked).json()
        await client.clock.advance(kept_ms - 1)
        assert (await client.status(body["id"]))["executionTime"] == 5_000
        await client.clock.advance(1)
        response = await client.get(f"/status/{body['id']}")
        assert response.status_code == 404
        assert response.json()["detail"].startswith("job not found")


async def test_a_cancelled_job_is_kept_as_well():
    async with emulated(workers_max=0) as client:
        job_id = await client.run()
        await client.post(f"/cancel/{job_id}")
        await client.clock.advance(1_799_999)
        assert await client.status(job_id) == {"id": job_id, "status": "CANCELLED"}
        await client.clock.advance(1)
        assert await client.is_gone(job_id)


@pytest.mark.parametrize("operation", ["status", "status-sync", "stream"])
async def test_an_unknown_job_is_not_found(operation):
    async with emulated() as client:
        response = await client.get(f"/{operation}/5f0c8d44-0000-4000-8000-000000000000-u1")
        assert response.status_code == 404
        assert response.json()["detail"].startswith("job not found")
