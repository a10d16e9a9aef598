"""Handlers that block: side by side, and never in the way of the API."""

import asyncio
import threading

import pytest

from tests.api.client import emulated

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("workers", [1, 2, 4])
async def test_as_many_run_side_by_side_as_there_are_workers(workers):
    lock, all_in = threading.Lock(), threading.Barrier(workers)
    now_in = most_in = 0

    def handler(job):
        nonlocal now_in, most_in
        with lock:
            now_in += 1
            most_in = max(most_in, now_in)
        all_in.wait()
        with lock:
            now_in -= 1
        return job["input"]

    async with emulated(handler, workers_max=workers, scaler_type="REQUEST_COUNT", scaler_value=1) as client:
        bodies = await asyncio.gather(*(client.runsync(number) for number in range(workers * 3)))
        assert [body["output"] for body in bodies] == list(range(workers * 3))
        assert len({body["workerId"] for body in bodies}) == workers
    assert most_in == workers


async def test_the_api_answers_while_every_handler_blocks():
    started, release = threading.Semaphore(0), threading.Event()

    def handler(_job):
        started.release()
        release.wait()
        return "done"

    async with emulated(handler, workers_min=2, workers_max=2) as client:
        running = [await client.run() for _ in range(2)]
        for _ in running:
            await asyncio.to_thread(started.acquire)
        queued = await client.run()
        assert (await client.status(running[0]))["status"] == "IN_PROGRESS"
        assert await client.jobs() == {
            "completed": 0,
            "failed": 0,
            "inProgress": 2,
            "inQueue": 1,
            "retried": 0,
        }
        assert (await client.post(f"/cancel/{queued}")).json()["status"] == "CANCELLED"
        release.set()
        for job_id in running:
            assert (await client.ended(job_id))["output"] == "done"


async def test_async_handlers_of_one_worker_do_not_run_side_by_side():
    running = 0

    async def handler(_job):
        nonlocal running
        running += 1
        await client.clock.sleep(1_000)
        most, running = running, running - 1
        return most

    async with emulated(handler, workers_max=1) as client:
        ids = [await client.run() for _ in range(3)]
        await client.clock.advance(3_000)
        assert [(await client.status(job_id))["output"] for job_id in ids] == [1, 1, 1]
        assert [(await client.status(job_id))["delayTime"] for job_id in ids] == [0, 1_000, 2_000]


async def test_a_handler_is_charged_what_the_clock_was_advanced_meanwhile():
    started, release = threading.Event(), threading.Event()

    def handler(_job):
        started.set()
        release.wait()

    async with emulated(handler) as client:
        job_id = await client.run(policy={"executionTimeout": 60_000})
        await asyncio.to_thread(started.wait)
        await client.clock.advance(59_000)
        release.set()
        assert (await client.ended(job_id))["executionTime"] == 59_000


async def test_a_blocked_handler_is_timed_out_and_a_new_worker_takes_the_next_job():
    release = threading.Event()

    def handler(job):
        if job["input"] == "stuck":
            release.wait()
        return "done"

    async with emulated(handler, workers_max=1) as client:
        stuck = await client.run("stuck", policy={"executionTimeout": 10_000})
        waiting = await client.run("next")
        await client.clock.advance(10_000)
        assert (await client.status(stuck))["error"] == "executionTimeout exceeded"
        body = await client.ended(waiting)
        release.set()
        assert (body["status"], body["output"], body["delayTime"]) == ("COMPLETED", "done", 10_000)
