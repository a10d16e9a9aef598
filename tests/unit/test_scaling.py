"""How many workers an endpoint has, and when (wire.md 6)."""

import asyncio

import pytest

from emulator.core.scaling import Demand, ScalerType, wanted_workers
from tests.unit.manual_workers import Stage

pytestmark = pytest.mark.anyio


def wanted(
    scaler,
    value=4,
    *,
    queued=0,
    in_progress=0,
    overdue=0,
    workers=0,
    starting=0,
    workers_min=0,
    workers_max=3,
):
    demand = Demand(
        queued=queued, in_progress=in_progress, overdue=overdue, workers=workers, starting=starting
    )
    return wanted_workers(
        demand,
        scaler_type=ScalerType(scaler),
        scaler_value=value,
        workers_min=workers_min,
        workers_max=workers_max,
    )


@pytest.mark.parametrize(
    ("seen", "count"),
    [
        ({}, 0),
        ({"workers_min": 2}, 2),
        ({"queued": 1}, 1),
        ({"queued": 100}, 1),
        ({"queued": 100, "workers": 1}, 1),
        ({"queued": 100, "workers": 1, "overdue": 1}, 2),
        ({"queued": 100, "workers": 1, "overdue": 3}, 3),
        ({"queued": 100, "workers": 1, "overdue": 1, "starting": 1}, 1),
        ({"queued": 100, "workers": 2, "overdue": 2, "starting": 1}, 3),
        ({"queued": 100, "workers": 3, "overdue": 3}, 3),
        ({"queued": 100, "workers": 3, "overdue": 3, "workers_max": 5}, 5),
        ({"queued": 1, "workers_max": 0}, 0),
        ({"in_progress": 5, "workers": 2}, 2),
        ({"workers": 2, "workers_min": 1}, 2),
    ],
)
def test_queue_delay(seen, count):
    assert wanted("QUEUE_DELAY", **seen) == count


@pytest.mark.parametrize(
    ("seen", "count"),
    [
        ({}, 0),
        ({"workers_min": 1}, 1),
        ({"queued": 1}, 1),
        ({"queued": 4}, 1),
        ({"queued": 5}, 2),
        ({"queued": 3, "in_progress": 2}, 2),
        ({"in_progress": 8}, 2),
        ({"queued": 100}, 3),
        ({"queued": 2, "value": 1}, 2),
        ({"queued": 100, "workers_max": 0}, 0),
        ({"queued": 4, "overdue": 4}, 1),
    ],
)
def test_request_count(seen, count):
    assert wanted("REQUEST_COUNT", **seen) == count


# An endpoint under QUEUE_DELAY


async def test_without_jobs_there_is_no_worker():
    stage = Stage()
    await stage.clock.advance(3_600_000)
    assert stage.launcher.starts == 0


async def test_the_first_job_starts_a_worker_at_once_and_the_next_ones_do_not():
    stage = Stage()
    for _ in range(5):
        stage.submit()
    assert stage.workers() == {"initializing": 1}
    await stage.clock.advance(3_999)
    assert stage.workers() == {"initializing": 1}


async def test_a_job_that_waits_too_long_starts_another_worker():
    stage = Stage()
    stage.submit()
    await stage.take_one()
    stage.submit()
    await stage.clock.advance(3_999)
    assert stage.workers() == {"running": 1}
    await stage.clock.advance(1)
    assert stage.workers() == {"running": 1, "initializing": 1}


async def test_a_worker_on_its_way_up_is_the_answer_to_one_waiting_job():
    stage = Stage()
    stage.submit()
    await stage.clock.advance(60_000)
    assert stage.workers() == {"initializing": 1}


async def test_each_waiting_job_is_counted_from_its_own_submission():
    stage = Stage()
    stage.submit()
    await stage.take_one()
    stage.submit()
    await stage.clock.advance(1_000)
    stage.submit()
    await stage.clock.advance(3_000)
    assert stage.workers() == {"running": 1, "initializing": 1}
    await stage.clock.advance(1_000)
    assert stage.workers() == {"running": 1, "initializing": 2}


async def test_there_are_never_more_workers_than_allowed():
    stage = Stage(workers_max=2)
    for _ in range(50):
        stage.submit()
        await stage.clock.advance(1_000)
    assert stage.workers() == {"initializing": 2}


async def test_when_a_worker_goes_the_jobs_that_still_wait_get_another():
    stage = Stage(workers_max=1)
    first, second = stage.submit(), stage.submit()
    assert await stage.take_one() is first
    await stage.clock.advance(60_000)
    stage.finish(first, stop_worker=True)
    assert stage.workers() == {"initializing": 1}
    assert len(stage.launcher.stopped) == 1
    assert await stage.take_one() is second


async def test_a_worker_that_takes_a_low_priority_job_is_not_the_answer_any_more():
    stage = Stage()
    low = stage.submit(lowPriority=True)
    stage.submit()
    await stage.clock.advance(10_000)
    assert stage.workers() == {"initializing": 1}
    assert await stage.take_one() is low
    assert stage.workers() == {"running": 1, "initializing": 1}


async def test_a_worker_slow_to_ask_for_the_waiting_job_is_replaced():
    stage = Stage(workers_max=1, idle_timeout_s=0.5)
    first, second = stage.submit(), stage.submit()
    await stage.take_one()
    slow = first.worker_id
    stage.finish(first)
    await stage.clock.advance(500)
    assert stage.launcher.stopped == [slow]
    assert stage.workers() == {"initializing": 1}
    assert await stage.take_one() is second


# An endpoint under REQUEST_COUNT


async def test_a_worker_for_every_so_many_jobs():
    stage = Stage(scaler_type="REQUEST_COUNT", scaler_value=2, workers_max=3)
    counts = []
    for _ in range(8):
        stage.submit()
        counts.append(len(stage.launcher.alive))
    assert counts == [1, 1, 2, 2, 3, 3, 3, 3]


async def test_running_jobs_count_as_well():
    stage = Stage(scaler_type="REQUEST_COUNT", scaler_value=1, workers_max=3)
    stage.submit()
    await stage.take_one()
    stage.submit()
    assert stage.workers() == {"running": 1, "initializing": 1}


async def test_jobs_that_a_waiting_worker_takes_at_once_count_too():
    stage = Stage(scaler_type="REQUEST_COUNT", scaler_value=1, workers_min=1, workers_max=3)
    [worker_id] = stage.launcher.alive
    takes = [asyncio.get_running_loop().create_task(stage.gateway.take(worker_id)) for _ in range(2)]
    await stage.clock.settle()
    for _ in range(2):
        stage.submit()
    await asyncio.gather(*takes)
    assert stage.workers() == {"running": 1, "initializing": 1}


# Workers that are always up, and those that are not needed any more


async def test_workers_min_are_started_without_any_job_and_stay():
    stage = Stage(workers_min=2)
    assert stage.workers() == {"initializing": 2}
    for worker_id in stage.launcher.alive:
        assert await stage.take(worker_id) == []
    await stage.clock.advance(3_600_000)
    assert stage.workers() == {"idle": 2}


async def test_idle_workers_are_stopped_down_to_workers_min():
    stage = Stage(workers_min=1, workers_max=3, scaler_type="REQUEST_COUNT", scaler_value=1)
    for _ in range(3):
        stage.submit()
    jobs = [await stage.take_one(worker_id) for worker_id in stage.launcher.alive]
    for job in jobs:
        stage.finish(job)
    await stage.clock.advance(4_999)
    assert stage.workers() == {"idle": 3}
    await stage.clock.advance(1)
    assert stage.workers() == {"idle": 1}
    assert (len(stage.launcher.stopped), stage.launcher.killed) == (2, [])


async def test_a_job_in_between_starts_the_idle_time_anew():
    stage = Stage()
    first = stage.submit()
    await stage.take_one()
    stage.finish(first)
    await stage.clock.advance(4_000)
    second = stage.submit()
    await stage.take_one()
    await stage.clock.advance(60_000)
    assert stage.workers() == {"running": 1}
    stage.finish(second)
    await stage.clock.advance(4_999)
    assert stage.workers() == {"idle": 1}
    await stage.clock.advance(1)
    assert stage.workers() == {}


async def test_a_worker_that_is_up_gets_the_next_job_without_another_start():
    stage = Stage()
    stage.finish(await started(stage))
    await stage.clock.advance(4_999)
    stage.submit()
    assert (stage.launcher.starts, stage.workers()) == (1, {"idle": 1})


async def started(stage):
    stage.submit()
    return await stage.take_one()


# lowPriority


async def test_a_low_priority_job_never_starts_a_worker():
    stage = Stage(scaler_value=1)
    job = stage.submit(lowPriority=True)
    await stage.clock.advance(3_600_000)
    assert (stage.launcher.starts, job.status) == (0, "IN_QUEUE")
    assert [notice for notice in stage.notices() if "lowPriority" in notice]


async def test_low_priority_jobs_start_no_second_worker_either():
    for scaler in ScalerType:
        stage = Stage(scaler_type=scaler, scaler_value=1)
        stage.submit()
        for _ in range(10):
            stage.submit(lowPriority=True)
        await stage.clock.advance(60_000)
        assert stage.launcher.starts == 1


async def test_a_worker_that_is_up_takes_low_priority_jobs_in_their_turn():
    stage = Stage(workers_min=1, workers_max=1)
    first = stage.submit(lowPriority=True)
    second = stage.submit()
    third = stage.submit(lowPriority=True)
    for job in (first, second, third):
        assert await stage.take_one() is job
        stage.finish(job)


# Crashes


async def test_a_crashed_worker_is_restarted_after_growing_delays():
    stage = Stage(workers_min=1)
    [worker_id] = stage.launcher.alive
    for crash, delay_ms in enumerate([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000], start=1):
        stage.gateway.crashed(worker_id, "it died")
        assert stage.workers() == {"unhealthy": 1}
        await stage.clock.advance(delay_ms - 1)
        assert (stage.launcher.starts, stage.workers()) == (crash, {"unhealthy": 1})
        await stage.clock.advance(1)
        assert (stage.launcher.starts, stage.workers()) == (crash + 1, {"initializing": 1})
    assert stage.launcher.alive == [worker_id]


async def test_a_job_done_makes_up_for_the_crashes_before():
    stage = Stage(workers_min=1, workers_max=1)
    [worker_id] = stage.launcher.alive
    for delay_ms in (1_000, 2_000):
        stage.gateway.crashed(worker_id, "it died")
        await stage.clock.advance(delay_ms)
    stage.finish(await started(stage))
    stage.gateway.crashed(worker_id, "it died")
    await stage.clock.advance(1_000)
    assert stage.workers() == {"initializing": 1}


async def test_a_worker_that_is_reported_dead_twice_is_restarted_once():
    stage = Stage(workers_min=1)
    [worker_id] = stage.launcher.alive
    stage.gateway.crashed(worker_id, "it died")
    stage.gateway.crashed(worker_id, "it died, says another")
    stage.gateway.heartbeat(worker_id, [])
    await stage.clock.advance(1_000)
    assert (stage.launcher.starts, stage.workers()) == (2, {"initializing": 1})
    await stage.clock.advance(3_600_000)
    assert (stage.launcher.starts, stage.workers()) == (2, {"initializing": 1})


async def test_a_crashed_workers_jobs_go_to_another_that_waits():
    stage = Stage(workers_min=2)
    first, second = stage.launcher.alive
    job = stage.submit()
    assert await stage.take_one(first) is job
    assert await stage.take(second) == []
    stage.gateway.crashed(first, "it died")
    assert await stage.take_one(second) is job
    assert stage.workers() == {"running": 1, "unhealthy": 1}
