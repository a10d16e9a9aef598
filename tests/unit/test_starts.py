"""Workers that do not start: what is told of it, how often, and what becomes of code that is broken."""

import asyncio

import pytest

from emulator.core.waiting import why_not_ready
from tests.unit.manual_workers import Stage

pytestmark = pytest.mark.anyio

NO_NUMPY = "ModuleNotFoundError: No module named 'numpy'"


async def polling(stage, worker_id):
    """A take that waits."""
    task = asyncio.get_running_loop().create_task(stage.gateway.take(worker_id))
    await stage.clock.settle()
    return task


def unready(stage):
    return why_not_ready(stage.endpoint)


# Failures to start


async def test_a_failure_is_told_once_for_all_workers_and_tries():
    stage = Stage(workers_min=3)
    for worker_id in list(stage.launcher.alive):
        stage.gateway.crashed(worker_id, NO_NUMPY)
    for _ in range(4):
        await stage.clock.advance(60_000)
        stage.gateway.crashed(stage.launcher.alive[-1], NO_NUMPY)
    assert stage.notices() == [f"no worker of 'ep' starts: {NO_NUMPY}"]


async def test_another_reason_is_told_anew_and_a_varying_part_is_none():
    stage = Stage(workers_min=1)
    [worker_id] = stage.launcher.alive
    for reason in (
        "<Model at 0x7f01> is bad",
        "<Model at 0x7f02> is bad",
        "no model",
        "<Model at 0x1> is bad",
    ):
        stage.gateway.crashed(worker_id, reason)
        await stage.clock.advance(60_000)
    told = [notice.partition("starts: ")[2] for notice in stage.notices()]
    assert told == ["<Model at 0x7f01> is bad", "no model"]


async def test_a_worker_that_comes_up_again_is_told_and_then_a_failure_is_news_again():
    stage = Stage(workers_min=1)
    [worker_id] = stage.launcher.alive
    for _ in range(2):
        stage.gateway.crashed(worker_id, NO_NUMPY)
        await stage.clock.advance(60_000)
        await stage.take(worker_id)
        stage.gateway.crashed(worker_id, "it died")
        await stage.clock.advance(60_000)
    sentence = f"no worker of 'ep' starts: {NO_NUMPY}"
    assert stage.notices() == [sentence, "workers of 'ep' start again"] * 2


async def test_a_worker_that_dies_once_it_was_up_is_no_failure_to_start():
    stage = Stage(workers_min=1)
    [worker_id] = stage.launcher.alive
    await stage.take(worker_id)
    stage.gateway.crashed(worker_id, "its process was killed")
    assert (stage.notices(), unready(stage)) == ([], "")


async def test_an_endpoint_is_not_ready_while_no_worker_has_been_up():
    stage = Stage(workers_min=1)
    assert unready(stage) == ""
    [worker_id] = stage.launcher.alive
    stage.gateway.crashed(worker_id, NO_NUMPY)
    assert unready(stage) == f"no worker of 'ep' starts: {NO_NUMPY}"
    await stage.clock.advance(1_000)
    assert unready(stage)
    await stage.take(worker_id)
    assert unready(stage) == ""
    stage.gateway.crashed(worker_id, "it died")
    await stage.clock.advance(1_000)
    stage.gateway.crashed(worker_id, NO_NUMPY)
    # It has been up: what keeps it from that now may pass.
    assert unready(stage) == ""


async def test_a_worker_from_elsewhere_makes_it_ready():
    stage = Stage(workers_min=1)
    stage.gateway.crashed(stage.launcher.alive[0], NO_NUMPY)
    stage.gateway.meet("elsewhere")
    await stage.take("elsewhere")
    assert unready(stage) == ""


async def test_a_reset_begins_anew():
    stage = Stage(workers_min=1)
    stage.gateway.crashed(stage.launcher.alive[0], NO_NUMPY)
    stage.endpoint.reset(stage.launcher)
    assert unready(stage) == ""
    stage.gateway.crashed(stage.launcher.alive[-1], NO_NUMPY)
    assert stage.notices() == [f"no worker of 'ep' starts: {NO_NUMPY}"] * 2


# New code


async def test_code_that_is_mended_is_started_without_waiting_for_the_next_try():
    stage = Stage(workers_max=1)
    stage.submit()
    for _ in range(5):
        stage.gateway.crashed(stage.launcher.alive[-1], NO_NUMPY)
        await stage.clock.advance(60_000)
    stage.gateway.crashed(stage.launcher.alive[-1], NO_NUMPY)
    starts = stage.launcher.starts
    assert stage.endpoint.reload()
    assert (stage.launcher.starts, stage.workers()) == (starts + 1, {"initializing": 1})
    assert unready(stage) == ""
    await stage.take_one()
    assert stage.notices()[-1] == "the new code of 'ep' serves"


async def test_new_code_that_does_not_start_when_no_older_worker_is_left_is_not_said_to_be_replaced():
    stage = Stage(workers_max=1, idle_timeout_s=5)
    job = stage.submit()
    [old] = stage.launcher.alive
    assert await stage.take(old) == [job]
    stage.finish(job)
    stage.endpoint.reload()
    await stage.clock.advance(5_000)
    new = stage.launcher.alive[-1]
    assert stage.workers() == {"initializing": 1}
    stage.gateway.crashed(new, NO_NUMPY)
    assert stage.notices() == [f"no worker of 'ep' starts: {NO_NUMPY}"]
    await stage.clock.advance(1_000)
    assert stage.launcher.alive == [new]


async def test_when_the_last_worker_with_older_code_goes_that_is_told():
    stage = Stage(workers_max=1, idle_timeout_s=5)
    job = stage.submit()
    [old] = stage.launcher.alive
    await stage.take(old)
    stage.endpoint.reload()
    stage.gateway.crashed(stage.launcher.alive[-1], NO_NUMPY)
    serving = f"the new code of 'ep' does not start, the older code goes on serving: {NO_NUMPY}"
    assert (stage.notices(), unready(stage)) == ([serving], "")
    stage.finish(job)
    await stage.clock.advance(5_000)
    left = f"no worker is left, jobs wait: no worker of 'ep' starts: {NO_NUMPY}"
    assert stage.notices() == [serving, left]
    assert unready(stage)


async def test_new_code_that_starts_at_the_second_try_takes_over_all_the_same():
    stage = Stage(workers_min=2, workers_max=2)
    first, second = list(stage.launcher.alive)
    takes = [await polling(stage, each) for each in (first, second)]
    stage.endpoint.reload()
    stage.gateway.crashed(stage.launcher.alive[-1], NO_NUMPY)
    stage.gateway.crashed(first, "it died")
    await stage.clock.advance(1_000)
    # What is started again after a crash runs the code as it is now.
    assert await stage.take(first) == []
    assert stage.notices()[-1] == "the new code of 'ep' serves"
    assert second in stage.launcher.stopped
    assert await asyncio.gather(*takes, return_exceptions=True)


async def test_a_worker_with_older_code_is_not_parked():
    stage = Stage(flashboot=True, idle_timeout_s=5, workers_max=1)
    job = stage.submit()
    [old] = stage.launcher.alive
    await stage.take(old)
    stage.finish(job)
    stage.endpoint.reload()
    stage.gateway.crashed(stage.launcher.alive[-1], NO_NUMPY)
    await stage.clock.advance(5_000)
    assert stage.launcher.stopped == [old]


# Code that is known to be broken


async def test_no_worker_is_started_with_broken_code():
    stage = Stage(workers_min=1, workers_max=3)
    [worker_id] = stage.launcher.alive
    stage.gateway.crashed(worker_id, NO_NUMPY)
    stage.endpoint.hold("handler.py: SyntaxError")
    assert (stage.workers(), stage.launcher.starts) == ({}, 1)
    job = stage.submit()
    await stage.clock.advance(3_600_000)
    assert (job.status, stage.launcher.starts) == ("IN_QUEUE", 1)
    assert unready(stage) == "no worker of 'ep' is started until its code is fixed: handler.py: SyntaxError"
    assert stage.endpoint.reload()
    assert await stage.take(stage.launcher.alive[-1]) == [job]


async def test_a_start_that_is_under_way_ends_when_the_code_breaks():
    stage = Stage(workers_min=1)
    [starting] = stage.launcher.alive
    stage.endpoint.hold("handler.py: SyntaxError")
    assert stage.launcher.killed == [starting]


async def test_workers_that_are_up_go_on_while_the_code_is_broken():
    stage = Stage(workers_max=3, idle_timeout_s=5)
    job = stage.submit()
    [old] = stage.launcher.alive
    await stage.take(old)
    stage.endpoint.hold("handler.py: SyntaxError")
    stage.finish(job)
    second = stage.submit()
    assert await stage.take(old) == [second]
    assert (stage.launcher.starts, unready(stage), stage.notices()) == (1, "", [])
    stage.finish(second)
    await stage.clock.advance(5_000)
    [left] = stage.notices()
    assert left.startswith("no worker is left, jobs wait: no worker of 'ep' is started until")
    assert unready(stage)


async def test_a_worker_that_dies_while_the_code_is_broken_is_not_started_again():
    stage = Stage(workers_max=1)
    stage.submit()
    [old] = stage.launcher.alive
    await stage.take(old)
    stage.endpoint.hold("handler.py: SyntaxError")
    stage.gateway.crashed(old, "it died")
    await stage.clock.advance(3_600_000)
    assert (stage.launcher.starts, stage.workers()) == (1, {})
    assert any("no worker is left, jobs wait" in notice for notice in stage.notices())


async def test_a_parked_worker_serves_while_the_code_is_broken():
    stage = Stage(flashboot=True, idle_timeout_s=5, workers_max=1)
    job = stage.submit()
    [old] = stage.launcher.alive
    await stage.take(old)
    stage.finish(job)
    take = await polling(stage, old)
    await stage.clock.advance(5_000)
    stage.endpoint.hold("handler.py: SyntaxError")
    assert unready(stage) == ""
    second = stage.submit()
    assert await take == [second]
