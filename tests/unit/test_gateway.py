"""The worker's door: takes, results, heartbeats and stop signals (wire.md 7)."""

import asyncio
import json

import pytest

from emulator.core.result import JobResult
from emulator.errors import WorkerGone
from tests.unit.manual_workers import Stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def stage():
    return Stage(workers_min=1, workers_max=1)


@pytest.fixture
def worker_id(stage):
    [worker_id] = stage.launcher.alive
    return worker_id


def start(coroutine):
    return asyncio.get_running_loop().create_task(coroutine)


# Taking


async def test_a_take_waits_for_a_job(stage, worker_id):
    take = start(stage.gateway.take(worker_id))
    await stage.clock.advance(3_600_000)
    assert not take.done()
    job = stage.submit()
    assert await take == [job]
    assert (job.status, job.worker_id, job.delay_ms) == ("IN_PROGRESS", worker_id, 0)


async def test_a_take_gives_up_after_its_hold(stage, worker_id):
    take = start(stage.gateway.take(worker_id, hold_ms=5_000))
    await stage.clock.settle()
    await stage.clock.advance(5_000)
    assert await take == []
    assert stage.submit().status == "IN_QUEUE"


async def test_a_take_brings_as_many_as_it_asks_for_and_no_more(stage, worker_id):
    jobs = [stage.submit(n) for n in range(5)]
    assert await stage.take(worker_id, limit=3) == jobs[:3]
    assert await stage.take(worker_id, limit=3) == jobs[3:]


async def test_what_comes_together_is_taken_together(stage, worker_id):
    take = start(stage.gateway.take(worker_id, limit=3))
    await stage.clock.settle()
    jobs = [stage.submit(n) for n in range(5)]
    assert await take == jobs[:3]


async def test_of_two_that_wait_the_one_that_came_last_is_served():
    stage = Stage(workers_min=2, workers_max=2)
    first, second = stage.launcher.alive
    takes = [start(stage.gateway.take(worker_id)) for worker_id in (first, second)]
    await stage.clock.settle()
    assert stage.submit().worker_id == second
    takes[0].cancel()
    await asyncio.wait(takes)


async def test_a_connection_that_breaks_loses_no_job(stage, worker_id):
    take = start(stage.gateway.take(worker_id, limit=2))
    await stage.clock.settle()
    first, second = stage.submit(1), stage.submit(2)
    take.cancel()
    await asyncio.wait([take])
    assert [job.status for job in (first, second)] == ["IN_QUEUE", "IN_QUEUE"]
    assert first.retries == 0
    await stage.clock.advance(1_000)
    assert await stage.take(worker_id, limit=2) == [first, second]


async def test_jobs_that_a_worker_gives_back_keep_their_place_and_their_waiting_time(stage, worker_id):
    jobs = [stage.submit(n) for n in range(4)]
    begun, *taken = await stage.take(worker_id, limit=3)
    await stage.clock.advance(300)
    stage.gateway.hand_back(worker_id, [job.id for job in taken])
    await stage.clock.advance(700)
    assert await stage.take(worker_id, limit=9) == jobs[1:]
    assert ([job.delay_ms for job in jobs], {job.retries for job in jobs}) == ([0, 1_000, 1_000, 1_000], {0})
    assert begun.status == "IN_PROGRESS"


@pytest.mark.parametrize("reason", ["unknown", "crashed", "retiring"])
async def test_a_worker_that_is_going_away_gets_nothing(stage, worker_id, reason):
    if reason == "unknown":
        worker_id = "nobody"
    elif reason == "crashed":
        stage.gateway.crashed(worker_id, "it died")
    else:
        for n in range(2):
            stage.submit(n)
        jobs = await stage.take(worker_id, limit=2)
        waiting = start(stage.gateway.take(worker_id))
        await stage.clock.settle()
        stage.finish(jobs[0], stop_worker=True)
        await stage.clock.settle()
        assert waiting.done()
        with pytest.raises(WorkerGone):
            await waiting
    stage.submit()
    with pytest.raises(WorkerGone):
        await stage.gateway.take(worker_id)


async def test_a_retiring_worker_finishes_what_it_holds_and_is_replaced(stage, worker_id):
    for n in range(2):
        stage.submit(n)
    first, second = await stage.take(worker_id, limit=2)
    stage.finish(first, stop_worker=True)
    assert stage.launcher.stopped == []
    stage.finish(second)
    assert stage.launcher.stopped == [worker_id]
    assert len(stage.launcher.alive) == 1


async def test_a_worker_that_asks_without_its_result_has_lost_its_job(stage, worker_id):
    job = stage.submit()
    await stage.take(worker_id)
    assert await stage.take(worker_id, in_progress=False) == [job]
    assert job.retries == 1
    assert await stage.take(worker_id, in_progress=False) == []
    assert (job.status, job.error) == ("FAILED", "job timed out after 1 retries")
    assert stage.workers() == {"idle": 1}


# Results


async def test_a_result_counts_once(stage, worker_id):
    job = stage.submit()
    await stage.take(worker_id)
    first, second = (JobResult(output_json=text) for text in (b"1", b"2"))
    assert stage.gateway.finish(worker_id, job.id, first)
    assert not stage.gateway.finish(worker_id, job.id, second)
    assert (job.status, job.output) == ("COMPLETED", 1)


@pytest.mark.parametrize("what", ["finish", "push_chunk", "report_progress"])
async def test_what_comes_for_another_workers_job_is_dropped(stage, worker_id, what):
    job = stage.submit()
    await stage.take(worker_id)
    thing = JobResult(output_json=b"1") if what == "finish" else b"1"
    for stranger, job_id in (("nobody", job.id), (worker_id, "nothing")):
        assert not getattr(stage.gateway, what)(stranger, job_id, thing)
    assert (job.status, job.output_json, job.chunks) == ("IN_PROGRESS", None, None)
    assert sum("was dropped" in notice for notice in stage.notices()) == 2


async def test_the_former_workers_late_result_does_not_end_the_new_attempt():
    stage = Stage(workers_min=2, workers_max=2)
    first, second = stage.launcher.alive
    job = stage.submit()
    await stage.take(first)
    stage.gateway.crashed(first, "it died")
    await stage.take(second)
    assert not stage.gateway.finish(first, job.id, JobResult(output_json=b'"old"'))
    assert stage.gateway.finish(second, job.id, JobResult(output_json=b'"new"'))
    assert job.output == "new"


# Heartbeats


async def test_a_job_missing_from_two_heartbeats_in_a_row_is_lost(stage, worker_id):
    for n in range(2):
        stage.submit(n)
    kept, missed = await stage.take(worker_id, limit=2)
    stage.gateway.heartbeat(worker_id, [kept.id])
    stage.gateway.heartbeat(worker_id, [kept.id, missed.id])
    stage.gateway.heartbeat(worker_id, [kept.id])
    assert missed.status == "IN_PROGRESS"
    stage.gateway.heartbeat(worker_id, [kept.id])
    assert (kept.status, missed.status, missed.retries) == ("IN_PROGRESS", "IN_QUEUE", 1)


async def test_a_job_taken_again_by_the_same_worker_has_its_two_heartbeats_again(stage, worker_id):
    job = stage.submit()
    await stage.take(worker_id)
    for _ in range(2):
        stage.gateway.heartbeat(worker_id, [])
    assert await stage.take(worker_id) == [job]
    stage.gateway.heartbeat(worker_id, [])
    assert job.status == "IN_PROGRESS"
    stage.gateway.heartbeat(worker_id, [])
    assert job.status == "FAILED"


async def test_a_retried_job_has_its_two_heartbeats_again(stage, worker_id):
    job = stage.submit()
    await stage.take(worker_id)
    stage.gateway.heartbeat(worker_id, [])
    stage.finish(job, error="bad")
    stage.endpoint.retry(job.id)
    assert await stage.take(worker_id) == [job]
    stage.gateway.heartbeat(worker_id, [])
    assert job.status == "IN_PROGRESS"


async def test_a_worker_whose_heartbeats_stop_is_lost_with_its_jobs(stage, worker_id):
    job = stage.submit()
    await stage.take(worker_id)
    await stage.clock.advance(10_000)
    stage.gateway.heartbeat(worker_id, [job.id])
    await stage.clock.advance(39_999)
    assert job.status == "IN_PROGRESS"
    await stage.clock.advance(1)
    assert (job.status, job.retries, stage.workers()) == ("IN_QUEUE", 1, {"unhealthy": 1})


async def test_a_worker_that_never_sends_heartbeats_is_not_missed(stage, worker_id):
    job = stage.submit()
    await stage.take(worker_id)
    await stage.clock.advance(599_999)
    assert job.status == "IN_PROGRESS"


def test_an_unknown_worker_cannot_report_in(stage):
    with pytest.raises(WorkerGone):
        stage.gateway.heartbeat("nobody", [])


# Stop signals


async def test_a_worker_hears_at_once_which_job_to_stop(stage, worker_id):
    job = stage.submit()
    await stage.take(worker_id)
    signals = start(stage.gateway.next_stop_signals(worker_id))
    await stage.clock.settle()
    stage.endpoint.cancel(job.id)
    await stage.clock.settle()
    assert signals.done()
    assert await signals == [job.id]
    stage.gateway.let_go(worker_id, job.id)
    assert stage.workers() == {"idle": 1}
    await stage.clock.advance(3_600_000)
    assert (stage.launcher.killed, stage.launcher.starts) == ([], 1)


async def test_a_poll_for_stop_signals_gives_up_after_its_hold(stage, worker_id):
    poll = start(stage.gateway.next_stop_signals(worker_id, hold_ms=20_000))
    await stage.clock.settle()
    await stage.clock.advance(20_000)
    assert await poll == []


async def test_a_poll_for_stop_signals_ends_with_its_worker(stage, worker_id):
    poll = start(stage.gateway.next_stop_signals(worker_id))
    await stage.clock.settle()
    stage.endpoint.close()
    with pytest.raises(WorkerGone):
        await poll


@pytest.mark.parametrize("sign", ["let_go", "result", "heartbeat", "heartbeat that knew it", "take"])
async def test_every_sign_that_a_job_was_stopped_counts(stage, worker_id, sign):
    job = stage.submit()
    await stage.take(worker_id)
    if sign == "heartbeat that knew it":
        stage.gateway.heartbeat(worker_id, [job.id])
    stage.endpoint.cancel(job.id)
    assert stage.workers() == {"running": 1}
    if sign == "let_go":
        stage.gateway.let_go(worker_id, job.id)
    elif sign == "result":
        assert not stage.finish(job)
    elif sign == "heartbeat":
        # The first may have been on its way when the worker was given the job.
        stage.gateway.heartbeat(worker_id, [])
        assert stage.workers() == {"running": 1}
        stage.gateway.heartbeat(worker_id, [])
    elif sign == "heartbeat that knew it":
        stage.gateway.heartbeat(worker_id, [])
    else:
        assert await stage.take(worker_id, in_progress=False) == []
    assert stage.workers() == {"idle": 1}
    await stage.clock.advance(3_000)
    assert stage.launcher.killed == []


async def test_a_worker_that_does_not_let_go_is_killed_and_its_other_jobs_are_not_to_blame(stage, worker_id):
    for n in range(2):
        stage.submit(n)
    stopped, other = await stage.take(worker_id, limit=2)
    stage.endpoint.cancel(stopped.id)
    stage.gateway.heartbeat(worker_id, [stopped.id, other.id])
    await stage.clock.advance(2_999)
    assert stage.launcher.killed == []
    await stage.clock.advance(1)
    assert stage.launcher.killed == [worker_id]
    assert (other.status, other.retries) == ("IN_QUEUE", 0)


async def test_a_stop_that_was_obeyed_does_not_reach_the_jobs_next_life(stage, worker_id):
    """It never asked for stop signals, brought its result late, and takes the same job again."""
    job = stage.submit(executionTimeout=6_000)
    await stage.take(worker_id)
    await stage.clock.advance(6_000)
    stage.finish(job)
    stage.endpoint.retry(job.id)
    assert await stage.take(worker_id) == [job]
    poll = start(stage.gateway.next_stop_signals(worker_id, hold_ms=0))
    await stage.clock.settle()
    assert await poll == []


async def test_a_retry_on_the_worker_that_still_stops_it_is_a_life_of_its_own(stage, worker_id):
    job = stage.submit(executionTimeout=6_000)
    await stage.take(worker_id)
    await stage.clock.advance(6_000)
    stage.endpoint.retry(job.id)
    assert await stage.take(worker_id) == [job]
    await stage.clock.advance(5_999)
    assert (job.status, stage.launcher.killed) == ("IN_PROGRESS", [])
    assert stage.finish(job)


# A worker that takes a while to die


@pytest.fixture
def slow_death():
    """A stage whose one worker holds two jobs, was told to stop the first, and did not."""
    stage = Stage(workers_min=1, workers_max=1)
    stage.launcher.kill = lambda worker_id: bool(stage.launcher.killed.append(worker_id)) or True
    return stage


async def hung(stage):
    stopped, other = stage.submit(1), stage.submit(2)
    await stage.take(stage.launcher.alive[0], limit=2)
    stage.endpoint.cancel(stopped.id)
    await stage.clock.advance(3_000)
    return other


async def test_its_other_jobs_are_requeued_when_it_is_dead_and_not_before(slow_death):
    stage, [worker_id] = slow_death, slow_death.launcher.alive
    other = await hung(stage)
    assert stage.launcher.killed == [worker_id]
    assert (other.status, stage.launcher.starts) == ("IN_PROGRESS", 1)
    with pytest.raises(WorkerGone):
        await stage.gateway.take(worker_id)
    stage.gateway.ended(worker_id)
    assert (other.status, other.retries, stage.launcher.starts) == ("IN_QUEUE", 0, 2)


async def test_what_it_still_finishes_counts(slow_death):
    stage, [worker_id] = slow_death, slow_death.launcher.alive
    other = await hung(stage)
    assert stage.finish(other)
    assert (other.status, stage.launcher.starts) == ("COMPLETED", 2)
    stage.gateway.ended(worker_id)
    assert stage.launcher.starts == 2


async def test_it_is_killed_once_however_many_jobs_it_keeps(slow_death):
    stage, [worker_id] = slow_death, slow_death.launcher.alive
    other = await hung(stage)
    stage.endpoint.cancel(other.id)
    await stage.clock.advance(3_000)
    stage.gateway.ended(worker_id)
    assert stage.launcher.killed == [worker_id]
    assert stage.launcher.starts == 2
    assert stage.workers() == {"initializing": 1}


async def test_a_worker_that_goes_may_let_go_of_its_last_job_by_a_late_result(stage, worker_id):
    cancelled, replaced = stage.submit(), stage.submit()
    assert await stage.take(worker_id, limit=2) == [cancelled, replaced]
    stage.endpoint.cancel(cancelled.id)
    stage.finish(replaced, output_json=b"1", stop_worker=True)
    assert not stage.gateway.finish(worker_id, cancelled.id, JobResult(output_json=b"1"))
    assert worker_id not in stage.launcher.alive


async def test_a_worker_that_is_dying_is_not_ended_as_idle_however_long_that_takes():
    stage = Stage(workers_max=1, idle_timeout_s=5)
    stage.submit()
    job = await stage.take_one()
    failure = {
        "event": "prestart_failed",
        "hook": "load",
        "error_type": "OSError",
        "error_message": "no weights",
    }
    stage.finish(job, error=json.dumps(failure))
    waiting = stage.submit()
    worker_id = job.worker_id
    assert stage.launcher.crashing == [worker_id]
    await stage.clock.advance(60_000)
    assert stage.endpoint.pool.get(worker_id).state == "idle"
    assert waiting.status == "IN_QUEUE"
    stage.gateway.crashed(worker_id, "init failed")
    assert "restarting in 1000 ms: init failed" in stage.endpoint.pool.get(worker_id).reason
    await stage.clock.advance(1_000)
    assert await stage.take_one(worker_id) is waiting
    # Up again, it is idle like any other.
    stage.finish(waiting)
    await stage.clock.advance(5_000)
    assert stage.endpoint.pool.get(worker_id) is None


async def test_a_worker_that_was_to_die_before_it_was_up_is_ended_as_idle_like_any_other():
    stage = Stage(workers_max=1, idle_timeout_s=5)
    waiting = stage.submit()
    [worker_id] = stage.launcher.alive
    worker = stage.endpoint.pool.get(worker_id)
    stage.endpoint.life.crash_worker(worker, "it was killed")
    # It has no process yet that could be ended, and comes up.
    take = start(stage.gateway.take(worker_id))
    await stage.clock.advance(5_000)
    assert stage.endpoint.pool.get(worker_id) is None
    with pytest.raises(WorkerGone):
        await take
    assert await stage.take_one() is waiting
