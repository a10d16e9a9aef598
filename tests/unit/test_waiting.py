"""Why a job waits, in a sentence: one place knows."""

import re

import pytest

from emulator.core.waiting import wait_of, why_waiting
from emulator.scenario.fault_order import FaultOrder
from tests.unit.manual_workers import Stage

pytestmark = pytest.mark.anyio

ADVANCE = r"; the clock is frozen, and '{}' is due in {} ms: advance it"


def told(stage, job):
    return why_waiting(stage.endpoint, job)


def is_endless(stage, job):
    wait = wait_of(stage.endpoint, job)
    return wait is not None and wait.endless


async def test_a_job_that_does_not_wait():
    stage = Stage(workers_max=1)
    job = stage.submit()
    await stage.take_one()
    stage.finish(job)
    assert told(stage, job) == ""


async def test_a_job_in_progress_waits_where_time_stands_still():
    stage = Stage(workers_max=1)
    job = stage.submit()
    await stage.take_one()
    frozen = "the clock is frozen, and 'executionTimeout' is due in 600000 ms: advance it"
    assert told(stage, job) == frozen
    stage.clock.set_mode("scaled:0.001")
    assert told(stage, job) == ""


async def test_a_cold_start_names_the_worker_and_for_how_long():
    stage = Stage(workers_max=1)
    job = stage.submit()
    [worker_id] = stage.launcher.alive
    await stage.clock.advance(1_500)
    assert told(stage, job).startswith(
        f"worker {worker_id} has been starting for 1.5 s and has not asked for a job yet"
    )


async def test_a_restart_counts_from_itself():
    stage = Stage(workers_max=1)
    job = stage.submit()
    [worker_id] = stage.launcher.alive
    await stage.take(worker_id)
    stage.gateway.crashed(worker_id, "it died")
    assert re.fullmatch(
        f"worker {worker_id} is unhealthy: restarting in 1000 ms: it died"
        + ADVANCE.format("worker restart", 1000),
        told(stage, job),
    )
    await stage.clock.advance(1_000)
    assert told(stage, job).startswith(f"worker {worker_id} has been starting for 0.0 s")


async def test_workers_that_do_not_start():
    stage = Stage(workers_max=1)
    job = stage.submit()
    stage.gateway.crashed(stage.launcher.alive[0], "no model")
    assert told(stage, job) == "no worker of 'ep' starts: no model"
    assert is_endless(stage, job)
    stage.endpoint.hold("handler.py: SyntaxError")
    assert told(stage, job) == "no worker of 'ep' is started until its code is fixed: handler.py: SyntaxError"


async def test_no_worker_is_allowed():
    stage = Stage(workers_max=0)
    job = stage.submit()
    assert (told(stage, job), is_endless(stage, job)) == ("workersMax is 0: no worker is started", True)


async def test_external_workers_that_have_not_come_and_that_have_gone():
    stage = Stage(worker_kind="external")
    stage.endpoint.open(None)
    job = stage.submit()
    stage.endpoint.pool.close()
    assert told(stage, job) == "no external worker has come"
    stage.gateway.meet("elsewhere")
    assert await stage.take("elsewhere") == [job]
    stage.finish(job)
    stage.endpoint.life.lose_worker(stage.endpoint.pool.get("elsewhere"), "silent")
    assert told(stage, stage.submit()) == "no external worker is left"


async def test_all_workers_are_busy():
    stage = Stage(workers_max=2, workers_min=1)
    jobs = [stage.submit(n) for n in range(2)]
    [worker_id] = stage.launcher.alive
    await stage.take(worker_id)
    assert told(stage, jobs[1]).startswith(f"worker {worker_id}, the only one, is busy")
    await stage.clock.advance(4_000)
    second = stage.launcher.alive[-1]
    assert f"; worker {second} has been starting for 0.0 s" in told(stage, jobs[1])
    stage.gateway.crashed(second, "no model")
    assert "the only one, is busy; no worker of 'ep' starts: no model" in told(stage, jobs[1])
    await stage.clock.advance(1_000)
    await stage.take(second)
    assert told(stage, stage.submit(3)).startswith("all 2 workers are busy")


async def test_an_idle_worker_that_has_not_asked():
    stage = Stage(workers_max=1)
    job = stage.submit()
    [worker_id] = stage.launcher.alive
    await stage.take(worker_id)
    stage.finish(job)
    assert told(stage, stage.submit()) == (
        f"worker {worker_id} is idle: it gets the job when it asks for its next one"
    )


async def test_a_low_priority_job_without_a_worker():
    stage = Stage()
    job = stage.submit(lowPriority=True)
    assert told(stage, job).startswith("the job is lowPriority, which never starts a worker")
    assert is_endless(stage, job)


async def test_orders():
    stage = Stage(workers_max=1)
    stage.faults.add(FaultOrder.read({"then": {"throttled_ms": 60_000}, "times": 1}).rule())
    job = stage.submit()
    [worker] = stage.endpoint.pool
    assert told(stage, job) == (
        f"worker {worker.id} is throttled, as was ordered (throttled_ms); the clock is frozen,"
        " and 'ordered start' is due in 60000 ms: advance it"
    )
    stage.faults.add(FaultOrder.read({"then": {"stall_ms": 90_000}, "times": 1}).rule())
    stalled = stage.submit()
    assert told(stage, stalled).startswith("it stalls in the queue, as was ordered (stall_ms); the clock is")
    await stage.clock.advance(60_000)
    stage.faults.add(FaultOrder.read({"then": {"hang": True}, "times": 1}).rule())
    await stage.take(worker.id)
    assert told(stage, stage.submit()) == f"worker {worker.id} hangs, as was ordered (hang)"


async def test_time_that_runs_is_not_to_be_advanced():
    stage = Stage(workers_max=1)
    job = stage.submit()
    assert "the clock is frozen" in told(stage, job)
    assert is_endless(stage, job)
    stage.clock.set_mode("real")
    assert "the clock is frozen" not in told(stage, job)
    assert not is_endless(stage, job)
    stage.clock.close()
