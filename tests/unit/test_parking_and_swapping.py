"""Workers that are parked when idle (flashboot), and workers that give way to newer code."""

import asyncio

import pytest

from emulator.core.events import WorkerMoved
from emulator.errors import WorkerGone
from tests.unit.manual_workers import Stage

pytestmark = pytest.mark.anyio


def start(coroutine):
    return asyncio.get_running_loop().create_task(coroutine)


async def polling(stage, worker_id):
    """A take that waits."""
    task = start(stage.gateway.take(worker_id))
    await stage.clock.settle()
    return task


async def parked_stage(**config):
    """A stage with one worker, parked, whose take waits."""
    stage = Stage(flashboot=True, idle_timeout_s=5, workers_max=2, **config)
    stage.finish_at_once = stage.submit()
    [worker_id] = stage.launcher.alive
    await stage.take_one(worker_id)
    stage.finish(stage.finish_at_once)
    take = await polling(stage, worker_id)
    await stage.clock.advance(5_000)
    return stage, worker_id, take


# Parking


async def test_an_idle_worker_is_parked_and_counts_no_more():
    stage, worker_id, take = await parked_stage()
    assert stage.workers() == {}
    assert (stage.launcher.stopped, stage.launcher.alive) == ([], [worker_id])
    assert not take.done()
    take.cancel()


async def test_the_next_job_finds_the_parked_worker_warm():
    stage, worker_id, take = await parked_stage()
    await stage.clock.advance(3_600_000)
    job = stage.submit()
    assert await take == [job]
    assert (job.worker_id, job.delay_ms, stage.launcher.starts) == (worker_id, 0, 1)
    assert stage.workers() == {"running": 1}


async def test_a_take_that_begins_while_its_worker_is_parked_waits_for_the_next_start():
    stage, worker_id, take = await parked_stage()
    take.cancel()
    again = await polling(stage, worker_id)
    assert not again.done()
    job = stage.submit()
    assert await again == [job]


async def test_a_parked_workers_take_ends_after_its_hold():
    stage, worker_id, take = await parked_stage()
    take.cancel()
    held = start(stage.gateway.take(worker_id, hold_ms=60_000))
    await stage.clock.settle()
    await stage.clock.advance(60_000)
    assert await held == []


async def test_a_second_worker_is_started_when_one_is_parked_and_two_are_wanted():
    stage, _, take = await parked_stage(scaler_type="REQUEST_COUNT", scaler_value=1)
    jobs = [stage.submit(n) for n in range(2)]
    assert await take == [jobs[0]]
    assert stage.launcher.starts == 2
    assert await stage.take(stage.launcher.alive[-1]) == [jobs[1]]


async def test_a_parked_worker_that_dies_is_forgotten():
    stage, worker_id, take = await parked_stage()
    stage.gateway.crashed(worker_id, "it died")
    with pytest.raises(WorkerGone):
        await take
    stage.submit()
    assert stage.launcher.starts == 2


async def test_a_parked_worker_goes_with_the_endpoint():
    stage, worker_id, take = await parked_stage()
    stage.endpoint.close()
    assert stage.launcher.stopped == [worker_id]
    with pytest.raises(WorkerGone):
        await take


async def test_a_parked_worker_has_old_code_and_goes_when_it_changes():
    stage, worker_id, take = await parked_stage()
    stage.endpoint.reload()
    assert stage.launcher.stopped == [worker_id]
    with pytest.raises(WorkerGone):
        await take
    assert stage.workers() == {}


# Swapping


async def test_newer_code_takes_over_once_a_worker_with_it_is_up():
    stage = Stage(workers_min=1, workers_max=1)
    [old] = stage.launcher.alive
    take = await polling(stage, old)
    stage.endpoint.reload()
    [_, new] = stage.launcher.alive
    first = stage.submit()
    assert await take == [first]
    assert first.worker_id == old
    assert await stage.take(new) == []
    assert stage.launcher.stopped == []
    stage.finish(first)
    assert stage.launcher.stopped == [old]
    second = stage.submit()
    assert await stage.take(new) == [second]
    with pytest.raises(WorkerGone):
        await stage.gateway.take(old)


async def test_idle_workers_with_old_code_go_at_once():
    stage = Stage(workers_min=2, workers_max=2)
    old = list(stage.launcher.alive)
    takes = [await polling(stage, worker_id) for worker_id in old]
    stage.endpoint.reload()
    assert await stage.take(stage.launcher.alive[-1]) == []
    assert sorted(stage.launcher.stopped) == sorted(old)
    assert len(stage.launcher.alive) == 2
    for take in takes:
        with pytest.raises(WorkerGone):
            await take


async def test_newer_code_that_does_not_start_changes_nothing():
    stage = Stage(workers_min=1, workers_max=1)
    [old] = stage.launcher.alive
    await stage.take(old)
    stage.endpoint.reload()
    [_, new] = stage.launcher.alive
    stage.gateway.crashed(new, "its process ended with exit code 1")
    last = [event for event in stage.events if isinstance(event, WorkerMoved)][-1]
    assert (last.worker_id, last.after, last.lost) == (new, None, True)
    assert last.reason == "the older code goes on serving: its process ended with exit code 1"
    job = stage.submit()
    assert await stage.take(old) == [job]
    stage.finish(job)
    await stage.clock.advance(3_600_000)
    assert stage.launcher.starts == 2


async def test_code_that_changes_again_before_it_is_up_is_swapped_once():
    stage = Stage(workers_min=1, workers_max=1)
    [old] = stage.launcher.alive
    await stage.take(old)
    stage.endpoint.reload()
    [_, half] = stage.launcher.alive
    stage.endpoint.reload()
    [_, new] = stage.launcher.alive
    assert stage.launcher.killed == [half]
    await stage.take(new)
    assert stage.launcher.alive == [new]


async def test_workers_that_cannot_start_are_replaced_by_code_that_can():
    stage = Stage(workers_min=1, workers_max=1)
    [broken] = stage.launcher.alive
    for _ in range(4):
        stage.gateway.crashed(broken, "a NameError")
        await stage.clock.advance(60_000)
    stage.gateway.crashed(broken, "a NameError")
    assert stage.workers() == {"unhealthy": 1}
    stage.endpoint.reload()
    await stage.take(stage.launcher.alive[-1])
    assert stage.workers() == {"idle": 1}


async def test_without_workers_there_is_nothing_to_swap():
    stage = Stage()
    stage.endpoint.reload()
    assert stage.launcher.starts == 0


async def test_workers_from_elsewhere_keep_their_code():
    stage = Stage(workers_max=1)
    stage.gateway.meet("elsewhere")
    assert await stage.take("elsewhere") == []
    stage.endpoint.reload()
    assert (stage.launcher.starts, stage.workers()) == (0, {"idle": 1})
