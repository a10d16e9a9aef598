"""Ending jobs before their time, and starting them again (wire.md 4)."""

import asyncio
import threading

import pytest

from emulator import VirtualClock
from tests.api.client import emulated

pytestmark = pytest.mark.anyio

OVER_BOTH_PATHS = pytest.mark.parametrize("prefix", ["/v2/ep", ""], ids=["v2", "root"])
ENDS = [({}, "COMPLETED"), ({"mock_error": True}, "FAILED")]


@OVER_BOTH_PATHS
async def test_cancelling_a_queued_job_keeps_it_from_starting(prefix):
    async with emulated(prefix=prefix, workers_max=1) as client:
        await client.status(await client.run({"mock_delay": 10}))
        job_id = await client.run({"mock_delay": 1})
        response = await client.post(f"/cancel/{job_id}")
        assert response.status_code == 200
        assert response.json() == {"id": job_id, "status": "CANCELLED"}
        assert (await client.jobs())["inQueue"] == 0
        await client.clock.advance(60_000)
        assert await client.status(job_id) == {"id": job_id, "status": "CANCELLED"}
        assert (await client.jobs())["completed"] == 1


async def test_cancelling_a_running_job_stops_its_handler_at_once():
    stopped = asyncio.Event()

    async def endless(_job):
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with emulated(endless) as client:
        job_id = await client.run()
        await client.clock.advance(2_000)
        assert (await client.post(f"/cancel/{job_id}")).json()["status"] == "CANCELLED"
        await stopped.wait()
        body = await client.status(job_id)
        assert set(body) == {"delayTime", "executionTime", "id", "status", "workerId"}
        assert (body["status"], body["executionTime"]) == ("CANCELLED", 2_000)
        assert await client.workers() == {"idle": 1}


async def test_the_place_of_a_sync_handler_that_cannot_be_stopped_is_taken_by_a_new_worker(caplog):
    started, release = threading.Event(), threading.Event()

    def stuck(job):
        if job["input"] == "stuck":
            started.set()
            release.wait()
        return "done"

    async with emulated(stuck, workers_max=1) as client:
        job_id = await client.run("stuck")
        await asyncio.to_thread(started.wait)
        first_worker = (await client.status(job_id))["workerId"]
        await client.post(f"/cancel/{job_id}")
        body = await client.runsync("next")
        release.set()
        assert (body["status"], body["output"]) == ("COMPLETED", "done")
        assert body["workerId"] != first_worker
        assert (await client.status(job_id))["status"] == "CANCELLED"
    assert "its handler is a sync function, which cannot be stopped in this process" in caplog.text


async def test_cancelling_wakes_whoever_waits():
    async with emulated() as client:
        asked = await client.begin("POST", "/runsync", json={"input": {"mock_delay": 30}})
        [job], _ = client.emulator.endpoint("ep").list_jobs(offset=0, limit=1)
        await client.post(f"/cancel/{job.id}")
        assert (await asked).json()["status"] == "CANCELLED"


@pytest.mark.parametrize(("job_input", "status"), ENDS)
async def test_cancelling_what_has_ended_answers_with_its_state(job_input, status):
    async with emulated() as client:
        before = await client.runsync({"mock_delay": 0, **job_input})
        response = await client.post(f"/cancel/{before['id']}")
        assert response.status_code == 200
        assert response.json() == {"id": before["id"], "status": status}
        assert await client.status(before["id"]) == before


async def test_cancelling_twice_is_no_error():
    async with emulated(workers_max=0) as client:
        job_id = await client.run()
        for _ in range(2):
            assert (await client.post(f"/cancel/{job_id}")).json() == {"id": job_id, "status": "CANCELLED"}


@pytest.mark.parametrize("operation", ["cancel", "retry"])
async def test_an_unknown_job_is_not_found(operation):
    async with emulated() as client:
        response = await client.post(f"/{operation}/no-such-job")
        assert response.status_code == 404
        assert response.json()["detail"].startswith("job not found")


@OVER_BOTH_PATHS
async def test_retrying_runs_the_same_job_again_with_its_first_input(prefix):
    inputs = []

    async def fails_first(job):
        inputs.append((job["id"], job["input"]))
        job["input"].clear()
        return {"error": "first time", "part": 1} if len(inputs) == 1 else "second time"

    async with emulated(fails_first, prefix=prefix) as client:
        job_id = await client.run({"prompt": "hi"})
        assert (await client.ended(job_id))["output"] == {"part": 1}
        response = await client.post(f"/retry/{job_id}")
        assert response.status_code == 200
        assert response.json() == {"id": job_id, "status": "IN_QUEUE"}
        body = await client.ended(job_id)
        assert (body["status"], body["output"]) == ("COMPLETED", "second time")
        assert "error" not in body
        assert "retries" not in body
    assert [job_id for job_id, _ in inputs] == [job_id, job_id]


async def test_retrying_removes_the_former_result_and_measures_anew():
    clock = VirtualClock()

    async def handler(_job):
        await clock.sleep(1_000)
        return {"error": "broken", "part": 1}

    async with emulated(handler, options={"clock": clock}, cold_start_ms=2_000) as client:
        job_id = await client.run()
        await clock.advance(3_000)
        body = await client.status(job_id)
        assert (body["error"], body["output"]) == ("broken", {"part": 1})
        await clock.advance(30_000)
        await client.post(f"/retry/{job_id}")
        assert await client.status(job_id) == {"id": job_id, "status": "IN_QUEUE"}
        await clock.advance(2_500)
        assert set(await client.status(job_id)) == {"delayTime", "id", "status", "workerId"}
        await clock.advance(500)
        body = await client.status(job_id)
        assert (body["status"], body["delayTime"], body["executionTime"]) == ("FAILED", 2_000, 1_000)


async def test_the_handler_gets_the_input_as_it_was_first_sent():
    seen = []

    async def handler(job):
        seen.append(dict(job["input"]))
        job["input"]["n"] = 2
        raise ValueError

    async with emulated(handler) as client:
        job_id = await client.run({"n": 1})
        await client.ended(job_id)
        await client.post(f"/retry/{job_id}")
        await client.ended(job_id)
    assert seen == [{"n": 1}, {"n": 1}]


@pytest.mark.parametrize(
    ("job_input", "workers", "status"),
    [({}, 0, "IN_QUEUE"), ({"mock_delay": 9}, 1, "IN_PROGRESS"), ({"mock_return": 1}, 1, "COMPLETED")],
)
async def test_only_what_failed_can_be_retried(job_input, workers, status):
    async with emulated(workers_max=workers) as client:
        job_id = await client.run({"a": 1, **job_input})
        before = await client.status(job_id)
        assert before["status"] == status
        response = await client.post(f"/retry/{job_id}")
        assert response.status_code == 400
        assert response.json()["detail"] == (
            f"bad request: job is {status}: only a FAILED or TIMED_OUT job can be retried"
        )
        assert await client.status(job_id) == before


async def test_a_cancelled_job_cannot_be_retried():
    async with emulated(workers_max=0) as client:
        job_id = await client.run()
        await client.post(f"/cancel/{job_id}")
        assert (await client.post(f"/retry/{job_id}")).status_code == 400


async def test_a_job_past_its_ttl_cannot_be_retried():
    async with emulated() as client:
        job_id = await client.run({"mock_error": "no"}, policy={"ttl": 60_000})
        await client.ended(job_id)
        await client.clock.advance(60_000)
        response = await client.post(f"/retry/{job_id}")
        assert response.status_code == 400
        assert "its ttl has run out; submit it again" in response.json()["detail"]


async def test_the_ttl_of_a_retried_job_goes_on():
    async with emulated(workers_max=1) as client:
        job_id = await client.run({"mock_error": "no"}, policy={"ttl": 60_000})
        await client.ended(job_id)
        await client.clock.advance(50_000)
        await client.run({"mock_delay": 100})
        await client.post(f"/retry/{job_id}")
        await client.clock.advance(9_999)
        assert (await client.status(job_id))["status"] == "IN_QUEUE"
        await client.clock.advance(1)
        assert await client.is_gone(job_id)


async def test_a_retried_job_is_kept_from_its_second_end():
    async with emulated() as client:
        job_id = await client.run({"mock_error": "no"})
        await client.ended(job_id)
        await client.clock.advance(1_799_000)
        await client.post(f"/retry/{job_id}")
        await client.ended(job_id)
        await client.clock.advance(1_799_999)
        assert (await client.status(job_id))["status"] == "FAILED"
        await client.clock.advance(1)
        assert await client.is_gone(job_id)


@OVER_BOTH_PATHS
async def test_purging_cancels_what_is_queued_and_leaves_what_runs(prefix):
    async with emulated(prefix=prefix, workers_max=1) as client:
        running = await client.run({"mock_delay": 30})
        await client.clock.settle()
        queued = [await client.run(), await client.run(policy={"lowPriority": True})]
        response = await client.post("/purge-queue")
        assert response.status_code == 200
        assert response.json() == {"removed": 2, "status": "completed"}
        for job_id in queued:
            assert await client.status(job_id) == {"id": job_id, "status": "CANCELLED"}
        await client.clock.advance(30_000)
        assert (await client.status(running))["status"] == "COMPLETED"
        assert (await client.jobs())["completed"] == 1


async def test_purging_an_empty_queue_removes_nothing():
    async with emulated() as client:
        assert (await client.post("/purge-queue")).json() == {"removed": 0, "status": "completed"}


async def test_purging_wakes_whoever_waits():
    async with emulated(workers_max=0) as client:
        asked = await client.begin("POST", "/runsync", json={"input": 1})
        await client.post("/purge-queue")
        assert (await asked).json()["status"] == "CANCELLED"
