"""Workers as /health counts them, from one moment to the next (wire.md 6)."""

import pytest

from emulator.workers.outcome import WorkerCrash
from tests.api.client import emulated

pytestmark = pytest.mark.anyio


async def run_many(client, count, seconds=600, **fields):
    ids = [await client.run({"mock_delay": seconds}, **fields) for _ in range(count)]
    await client.clock.settle()
    return ids


async def test_nothing_runs_without_a_job():
    async with emulated() as client:
        await client.clock.advance(60_000)
        assert await client.workers() == {}


async def test_a_worker_from_its_cold_start_to_its_idle_timeout():
    async with emulated(cold_start_ms=3_000, idle_timeout_s=5) as client:
        job_id = await client.run({"mock_delay": 10})
        await client.clock.settle()
        assert (await client.workers(), (await client.jobs())["inQueue"]) == ({"initializing": 1}, 1)
        await client.clock.advance(2_999)
        assert await client.workers() == {"initializing": 1}
        await client.clock.advance(1)
        assert (await client.workers(), (await client.jobs())["inProgress"]) == ({"running": 1}, 1)
        assert (await client.status(job_id))["delayTime"] == 3_000
        await client.clock.advance(9_999)
        assert await client.workers() == {"running": 1}
        await client.clock.advance(1)
        assert (await client.workers(), (await client.jobs())["completed"]) == ({"idle": 1}, 1)
        await client.clock.advance(4_999)
        assert await client.workers() == {"idle": 1}
        await client.clock.advance(1)
        assert await client.workers() == {}


async def test_an_idle_worker_takes_the_next_job_and_its_timeout_begins_anew():
    async with emulated(cold_start_ms=3_000) as client:
        first = await client.run()
        await client.clock.advance(3_000 + 4_000)
        second = await client.run()
        bodies = [await client.status(job_id) for job_id in (first, second)]
        assert bodies[0]["workerId"] == bodies[1]["workerId"]
        assert bodies[1]["delayTime"] == 0
        await client.clock.advance(4_999)
        assert await client.workers() == {"idle": 1}
        await client.clock.advance(1)
        assert await client.workers() == {}


async def test_workers_that_are_always_up():
    async with emulated(workers_min=2, cold_start_ms=1_000) as client:
        assert await client.workers() == {"initializing": 2}
        await client.clock.advance(1_000)
        assert await client.workers() == {"idle": 2}
        await client.clock.advance(3_600_000)
        assert await client.workers() == {"idle": 2}
        await run_many(client, 1)
        assert await client.workers() == {"idle": 1, "running": 1}


async def test_queue_delay_adds_a_worker_when_a_job_has_waited_too_long():
    async with emulated(scaler_value=4, workers_max=3) as client:
        await run_many(client, 2)
        assert await client.workers() == {"running": 1}
        await client.clock.advance(3_999)
        assert await client.workers() == {"running": 1}
        await client.clock.advance(1)
        assert (await client.workers(), (await client.jobs())["inProgress"]) == ({"running": 2}, 2)


async def test_queue_delay_counts_every_job_from_its_own_submission():
    async with emulated(scaler_value=4, workers_max=3) as client:
        await run_many(client, 2)
        await client.clock.advance(1_000)
        await run_many(client, 1)
        await client.clock.advance(3_000)
        assert await client.workers() == {"running": 2}
        await client.clock.advance(1_000)
        assert await client.workers() == {"running": 3}


async def test_queue_delay_waits_for_a_cold_start_before_it_adds_another():
    async with emulated(scaler_value=4, workers_max=3, cold_start_ms=10_000) as client:
        await run_many(client, 1)
        await client.clock.advance(9_999)
        assert await client.workers() == {"initializing": 1}
        await client.clock.advance(1)
        assert await client.workers() == {"running": 1}


async def test_never_more_than_workers_max():
    async with emulated(scaler_value=1, workers_max=2) as client:
        await run_many(client, 10)
        await client.clock.advance(60_000)
        assert (await client.workers(), await client.jobs()) == (
            {"running": 2},
            {"completed": 0, "failed": 0, "inProgress": 2, "inQueue": 8, "retried": 0},
        )


@pytest.mark.parametrize(
    ("jobs", "value", "most", "wanted"),
    [(1, 4, 3, 1), (4, 4, 3, 1), (5, 4, 3, 2), (9, 4, 3, 3), (40, 4, 3, 3), (3, 1, 5, 3), (7, 2, 9, 4)],
)
async def test_request_count_has_a_worker_for_so_many_jobs_at_once(jobs, value, most, wanted):
    async with emulated(scaler_type="REQUEST_COUNT", scaler_value=value, workers_max=most) as client:
        await run_many(client, jobs)
        assert await client.workers() == {"running": wanted}
        await client.clock.advance(60_000)
        assert await client.workers() == {"running": wanted}


async def test_request_count_counts_running_jobs_too():
    async with emulated(scaler_type="REQUEST_COUNT", scaler_value=2, workers_max=5) as client:
        for count, wanted in [(1, 1), (1, 1), (1, 2), (1, 2), (1, 3)]:
            await run_many(client, count)
            assert await client.workers() == {"running": wanted}


async def test_jobs_are_run_in_the_order_they_came():
    order = []
    async with emulated(lambda job: order.append(job["input"]), workers_max=1, cold_start_ms=1_000) as client:
        for number in range(20):
            await client.run(number, policy={"lowPriority": number % 3 == 0})
        last = await client.begin("POST", "/runsync", json={"input": 20})
        await client.clock.advance(1_000)
        assert (await last).json()["status"] == "COMPLETED"
    assert order == list(range(21))


@pytest.mark.parametrize("scaler_type", ["QUEUE_DELAY", "REQUEST_COUNT"])
async def test_low_priority_alone_never_starts_a_worker_and_the_log_says_why(scaler_type, caplog):
    caplog.set_level("INFO", "emulator")
    async with emulated(scaler_type=scaler_type, scaler_value=1) as client:
        [job_id] = await run_many(client, 1, seconds=1, policy={"lowPriority": True})
        [line] = [line for line in caplog.messages if "lowPriority" in line]
        assert line.startswith(
            f"ep job {job_id}: waiting: the job is lowPriority, which never starts a worker"
        )
        await client.clock.advance(3_600_000)
        assert (await client.workers(), (await client.jobs())["inQueue"]) == ({}, 1)
        # Another job brings a worker up, and that takes the waiting one first.
        await run_many(client, 1, seconds=1)
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"
        await client.clock.advance(1_000)
        assert (await client.status(job_id))["status"] == "COMPLETED"


async def test_low_priority_is_served_by_workers_that_are_up_but_adds_none():
    async with emulated(workers_min=1, workers_max=3, scaler_value=1) as client:
        await client.clock.settle()
        first, second = await run_many(client, 2, policy={"lowPriority": True})
        assert (await client.status(first))["status"] == "IN_PROGRESS"
        await client.clock.advance(300_000)
        assert await client.workers() == {"running": 1}
        assert (await client.status(second))["status"] == "IN_QUEUE"


async def test_a_crashed_worker_is_unhealthy_and_restarts_after_a_growing_delay():
    async def crash(_job):
        raise WorkerCrash("dead")

    async with emulated(crash, workers_max=1, workers_min=1) as client:
        await client.clock.settle()
        for delay_ms in (1_000, 2_000, 4_000, 8_000):
            job_id = await client.run()
            await client.clock.settle()
            assert await client.workers() == {"unhealthy": 1}
            await client.post(f"/cancel/{job_id}")
            await client.clock.advance(delay_ms - 1)
            assert await client.workers() == {"unhealthy": 1}
            await client.clock.advance(1)
            assert await client.workers() == {"idle": 1}


async def test_a_worker_that_asks_to_be_replaced_is():
    async with emulated(workers_min=1, workers_max=1) as client:
        first = await client.runsync({"mock_refresh": True})
        second = await client.runsync()
        assert (first["status"], first["output"]) == ("COMPLETED", {"mock_return": "Hello World!"})
        assert first["workerId"] != second["workerId"]
        await client.clock.settle()
        assert await client.workers() == {"idle": 1}


async def test_a_worker_says_why_it_goes(caplog):
    caplog.set_level("INFO", "emulator")
    async with emulated(idle_timeout_s=2.5) as client:
        worker_id = (await client.runsync())["workerId"]
        await client.clock.advance(2_500)
        assert f"ep worker {worker_id} idle → gone: idle for 2.5 s" in caplog.messages
