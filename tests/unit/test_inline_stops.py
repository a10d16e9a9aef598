"""Inline workers: how they come up, share their jobs, are told to stop, and are left behind."""

import asyncio
import threading

import pytest

from emulator.clock.clock import VirtualClock
from emulator.clock.real_time import next_round
from emulator.core.config import EndpointConfig
from emulator.workers.handler import Handler
from tests.limits import PATIENCE_S
from tests.unit.inline_stage import InlineStage, inline_stage

pytestmark = pytest.mark.anyio


# Coming up


async def test_a_cold_start_takes_its_time():
    async with inline_stage(lambda job: 1, cold_start_ms=3_000) as stage:
        job = stage.submit()
        await stage.clock.advance(2_999)
        assert (job.status, stage.workers()) == ("IN_QUEUE", {"initializing": 1})
        await stage.clock.advance(1)
        await stage.ended(job)
        assert (job.status, job.delay_ms) == ("COMPLETED", 3_000)
        assert stage.workers() == {"idle": 1}


async def test_a_worker_on_its_way_up_can_be_ended():
    async with inline_stage(lambda job: 1, cold_start_ms=3_000) as stage:
        job = stage.submit()
        await stage.clock.settle()
        stage.endpoint.close()
        await stage.clock.advance(10_000)
        assert (job.status, await stage.launcher.close(1.0)) == ("IN_QUEUE", 0)


async def test_the_execution_time_is_the_emulated_time_that_passed():
    clock = VirtualClock(start_ms=0)

    async def handler(job):
        await clock.sleep(3_391)
        return 1

    async with inline_stage(handler, clock=clock) as stage:
        job = stage.submit()
        await clock.advance(10_000)
        assert (job.status, job.execution_ms, job.ended_ms) == ("COMPLETED", 3_391, 3_391)


async def test_an_idle_worker_is_ended_and_another_started_when_needed():
    async with inline_stage(lambda job: 1) as stage:
        first = await stage.run()
        await stage.clock.advance(5_000)
        assert stage.workers() == {}
        second = await stage.run()
        assert (second.status, second.worker_id != first.worker_id) == ("COMPLETED", True)


# Several jobs at once


class Meeting:
    """A handler in which jobs wait for one another."""

    def __init__(self):
        self.open = asyncio.Event()
        self.present = []

    async def __call__(self, job):
        self.present.append(job["input"])
        await self.open.wait()
        return job["input"]


async def test_a_worker_runs_one_job_at_a_time():
    meeting = Meeting()
    async with inline_stage(meeting, workers_max=1) as stage:
        jobs = [stage.submit(n) for n in range(3)]
        await stage.clock.settle()
        assert meeting.present == [0]
        meeting.open.set()
        assert [(await stage.ended(job)).output for job in jobs] == [0, 1, 2]


async def test_as_many_as_the_concurrency_modifier_says():
    meeting = Meeting()
    config = {"concurrency_modifier": lambda current: 3}
    async with inline_stage(meeting, start_config=config, workers_max=1) as stage:
        jobs = [stage.submit(n) for n in range(5)]
        await stage.clock.settle()
        assert meeting.present == [0, 1, 2]
        assert stage.endpoint.health()["jobs"]["inProgress"] == 3
        assert stage.workers() == {"running": 1}
        meeting.open.set()
        assert [(await stage.ended(job)).output for job in jobs] == [0, 1, 2, 3, 4]
        assert len({job.worker_id for job in jobs}) == 1


async def test_fewer_again_when_it_says_less():
    limits = iter([2, 2])
    meeting = Meeting()
    config = {"concurrency_modifier": lambda current: next(limits, 1)}
    async with inline_stage(meeting, start_config=config, workers_max=1) as stage:
        first = [stage.submit(n) for n in range(2)]
        await stage.clock.settle()
        assert meeting.present == [0, 1]
        meeting.open.set()
        for job in first:
            await stage.ended(job)
        meeting.open.clear()
        for n in (2, 3):
            stage.submit(n)
        await stage.clock.settle()
        assert len(meeting.present) == 3
        meeting.open.set()


@pytest.mark.parametrize("nonsense", [lambda current: 1 / 0, lambda current: "many", lambda current: -5])
async def test_a_broken_concurrency_modifier_leaves_one(nonsense):
    meeting = Meeting()
    async with inline_stage(meeting, start_config={"concurrency_modifier": nonsense}, workers_max=1) as stage:
        jobs = [stage.submit(n) for n in range(2)]
        await stage.clock.settle()
        assert meeting.present == [0]
        meeting.open.set()
        assert [(await stage.ended(job)).output for job in jobs] == [0, 1]


async def test_hundreds_of_quick_jobs_come_back_in_order():
    seen = []

    def handler(job):
        seen.append(job["input"])
        return job["input"]

    async with inline_stage(handler, workers_max=1) as stage:
        jobs = [stage.submit(n) for n in range(300)]
        assert [(await stage.ended(job)).output for job in jobs] == list(range(300))
        assert seen == list(range(300))


async def test_a_queue_of_quick_async_jobs_leaves_the_loop_to_others_now_and_then(monkeypatch):
    monkeypatch.setattr("emulator.workers.loop_worker._HOLDS_LOOP_S", 0.0)
    run = 0

    async def handler(job):
        nonlocal run
        run += 1

    async with inline_stage(handler, workers_max=1) as stage:
        jobs = [stage.submit(n) for n in range(10)]
        seen = set()
        while not jobs[-1].terminal:
            seen.add(run)
            await next_round()
        assert len(seen) > 5


async def test_a_slow_job_does_not_keep_the_next_ones_from_other_workers(monkeypatch):
    """A worker that has proved quick takes several jobs; those behind a slow one go back to the queue."""
    monkeypatch.setattr("emulator.workers.thread_worker._QUICK_S", 60.0)
    go_on = threading.Event()

    def handler(job):
        if job["input"] == "slow":
            go_on.wait()
        return job["input"]

    async with inline_stage(handler, workers_max=1) as stage:
        for _ in range(20):
            await stage.ended([stage.submit(n) for n in range(20)][-1])
        slow = stage.submit("slow")
        others = [stage.submit(n) for n in range(10)]
        await stage.until(lambda: [job.id for job in stage.given_back()] == [job.id for job in others])
        assert (slow.status, {job.status for job in others}) == ("IN_PROGRESS", {"IN_QUEUE"})
        assert [job.id for job in stage.endpoint.queue] == [job.id for job in others]
        assert {job.retries for job in others} == {0}
        go_on.set()
        assert [(await stage.ended(job)).output for job in [slow, *others]] == ["slow", *range(10)]


# Being told to stop


async def test_cancelling_reaches_into_an_async_handler():
    events = []

    async def handler(job):
        try:
            events.append(("began, cancelled so often", asyncio.current_task().cancelling()))
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("stopped")
            raise

    async with inline_stage(handler, workers_max=1) as stage:
        job = stage.submit()
        await stage.clock.settle()
        stage.endpoint.cancel(job.id)
        assert (job.status, stage.workers()) == ("CANCELLED", {"running": 1})
        await stage.clock.settle()
        assert (events[1:], stage.workers()) == (["stopped"], {"idle": 1})

        again = stage.submit()
        await stage.clock.settle()
        assert (again.status, again.worker_id) == ("IN_PROGRESS", job.worker_id)
        assert events[0] == events[2] == ("began, cancelled so often", 0)


async def test_cancelling_closes_an_async_generator():
    events = []

    async def handler(job):
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            events.append("closed")

    async with inline_stage(handler) as stage:
        job = stage.submit()
        await stage.clock.settle()
        stage.endpoint.cancel(job.id)
        await stage.clock.settle()
        assert (events, stage.workers()) == (["closed"], {"idle": 1})
        assert await stage.endpoint.read_stream(job, 1_000) == ("CANCELLED", [b'"first"'])


async def test_cancelling_reaches_a_coroutine_that_a_plain_function_returned():
    events = []

    async def work():
        events.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("stopped")

    async with inline_stage(lambda job: work()) as stage:
        job = stage.submit()
        await stage.until(lambda: events == ["begun"])
        stage.endpoint.cancel(job.id)
        await stage.until(lambda: stage.workers() == {"idle": 1})
        assert events == ["begun", "stopped"]


async def test_one_of_several_jobs_is_stopped_and_the_others_go_on():
    meeting = Meeting()
    config = {"concurrency_modifier": lambda current: 2}
    async with inline_stage(meeting, start_config=config, workers_max=1) as stage:
        first, second = stage.submit(1), stage.submit(2)
        await stage.clock.settle()
        stage.endpoint.cancel(first.id)
        await stage.clock.settle()
        meeting.open.set()
        await stage.ended(second)
        assert (first.status, second.status, second.output) == ("CANCELLED", "COMPLETED", 2)


@pytest.mark.parametrize(
    ("policy", "status", "error"),
    [
        ({"executionTimeout": 6_000}, "FAILED", "executionTimeout exceeded"),
        ({"ttl": 10_000}, "TIMED_OUT", None),
    ],
)
async def test_a_handler_that_takes_too_long_is_stopped(policy, status, error):
    clock = VirtualClock(start_ms=0)
    stopped = []

    async def handler(job):
        try:
            await clock.sleep(3_600_000)
        finally:
            stopped.append(clock.now_ms())

    async with inline_stage(handler, clock=clock) as stage:
        job = stage.submit(**policy)
        await clock.advance(20_000)
        assert (job.status, job.error) == (status, error)
        assert stopped == [job.ended_ms]


async def test_a_handler_that_will_not_stop_loses_its_worker():
    go_on = asyncio.Event()

    async def handler(job):
        while job["input"] == "stubborn" and not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    async with inline_stage(handler, workers_max=1) as stage:
        job, waiting = stage.submit("stubborn"), stage.submit()
        await stage.clock.settle()
        stage.endpoint.cancel(job.id)
        await stage.clock.advance(2_999)
        assert (stage.workers(), waiting.status) == ({"running": 1}, "IN_QUEUE")
        await stage.clock.advance(1)
        await stage.ended(waiting)
        assert waiting.worker_id != job.worker_id
        go_on.set()
        await stage.clock.settle()
        assert (job.status, job.output) == ("CANCELLED", None)


async def test_a_handler_that_takes_the_stop_as_its_end_keeps_its_worker():
    async def handler(job):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "cut short"

    async with inline_stage(handler, workers_max=1) as stage:
        for _ in range(2):
            job = stage.submit()
            await stage.clock.settle()
            stage.endpoint.cancel(job.id)
            await stage.clock.settle()
            assert (job.status, job.output, stage.workers()) == ("CANCELLED", None, {"idle": 1})
        assert len(stage.endpoint.pool) == 1


async def test_a_retried_job_is_not_stopped_for_its_former_life():
    clock = VirtualClock(start_ms=0)
    lives = []

    async def handler(job):
        lives.append(clock.now_ms())
        if len(lives) == 1:
            await clock.sleep(3_600_000)
        await clock.sleep(4_000)
        return "second try"

    async with inline_stage(handler, clock=clock, workers_max=1) as stage:
        job = stage.submit(executionTimeout=6_000)
        await clock.advance(6_000)
        assert job.status == "FAILED"
        stage.endpoint.retry(job.id)
        await clock.advance(10_000)
        assert (job.status, job.output, lives) == ("COMPLETED", "second try", [0, 6_000])


@pytest.mark.parametrize("kind", ["async", "async generator", "coroutine"])
@pytest.mark.parametrize("way", ["raised", "its own task's"])
async def test_a_cancellation_that_nobody_asked_for_loses_the_job_and_no_more(kind, way):
    """As the SDK does: it reports nothing, and the worker goes on (attack.md 5)."""

    async def work(job):
        if job["input"] == "cancel" and way == "raised":
            raise asyncio.CancelledError
        if job["input"] == "cancel":
            asyncio.current_task().cancel()
            await asyncio.Event().wait()
        return "fine"

    async def stream(job):
        yield await work(job)

    handler = {"async": work, "async generator": stream, "coroutine": lambda job: work(job)}[kind]
    async with inline_stage(handler, workers_max=1) as stage:
        job = await stage.run("cancel")
        assert (job.status, job.error) == ("FAILED", "job timed out after 1 retries")
        assert "cancelled its own task" in stage.notices()[0]
        assert stage.workers() == {"idle": 1}
        assert (await stage.run()).status == "COMPLETED"


@pytest.mark.parametrize("kind", ["async", "coroutine"])
async def test_a_cancellation_that_strikes_after_the_handler_has_returned_strikes_nobody(kind):
    async def work(job):
        if job["input"] == "cancel":
            asyncio.current_task().cancel()
        return "fine"

    async with inline_stage({"async": work, "coroutine": lambda job: work(job)}[kind]) as stage:
        assert (await stage.run("cancel")).output == "fine"
        assert (await stage.run()).output == "fine"


async def test_a_loop_that_is_torn_down_ends_a_worker_that_nobody_has_ended():
    """Or the program would never end: what cancels all tasks is no handler's doing."""

    async def handler(job):
        await asyncio.Event().wait()

    others = asyncio.all_tasks()
    stage = InlineStage(Handler.of(handler, "the handler", {}), VirtualClock(start_ms=0), EndpointConfig())
    stage.submit()
    await stage.clock.settle()
    tasks = asyncio.all_tasks() - others
    for task in tasks:
        task.cancel()
    done, going_on = await asyncio.wait(tasks, timeout=PATIENCE_S)
    assert (len(done), going_on) == (2, set())


# Handlers that cannot be stopped


async def test_an_abandoned_sync_handler_leaves_its_worker_to_be_replaced():
    begun, go_on, left = threading.Event(), threading.Event(), threading.Event()

    def handler(job):
        if job["input"] == "stuck":
            begun.set()
            go_on.wait()
            left.set()
        return "done"

    async with inline_stage(handler, workers_max=1) as stage:
        stuck, waiting = stage.submit("stuck"), stage.submit()
        await stage.until(begun.is_set)
        stage.endpoint.cancel(stuck.id)
        await stage.ended(waiting)
        assert (waiting.status, waiting.output) == ("COMPLETED", "done")
        assert waiting.worker_id != stuck.worker_id
        assert any("cannot be stopped" in notice for notice in stage.notices())

        go_on.set()
        await stage.until(lambda: any("a late result" in notice for notice in stage.notices()))
        assert left.is_set()
        assert (stuck.status, stuck.output, stage.workers()) == ("CANCELLED", None, {"idle": 1})


async def test_a_sync_handler_over_its_time_is_abandoned_at_that_moment():
    begun, go_on = threading.Event(), threading.Event()

    def handler(job):
        begun.set()
        go_on.wait()

    async with inline_stage(handler, workers_max=1) as stage:
        job = stage.submit(executionTimeout=6_000)
        await stage.until(begun.is_set)
        await stage.clock.advance(6_000)
        assert (job.status, job.error, stage.workers()) == ("FAILED", "executionTimeout exceeded", {})
        go_on.set()


async def test_an_abandoned_generator_ends_at_its_next_chunk():
    go_on, closed = threading.Event(), threading.Event()
    wasted = []

    def handler(job):
        try:
            yield 1
            go_on.wait()
            yield 2
            wasted.append("work")
        finally:
            closed.set()

    async with inline_stage(handler) as stage:
        job = stage.submit()
        assert await stage.endpoint.read_stream(job, 1_000) == ("IN_PROGRESS", [b"1"])
        stage.endpoint.cancel(job.id)
        await stage.clock.settle()
        go_on.set()
        await stage.until(closed.is_set)
        assert await stage.endpoint.read_stream(job, 1_000) == ("CANCELLED", [])
        assert wasted == []


async def test_a_job_cancelled_before_its_worker_woke_up_is_not_begun():
    begun = []
    async with inline_stage(lambda job: begun.append(job["input"]), workers_max=1) as stage:
        worker_id = (await stage.run("first")).worker_id
        stage.endpoint.cancel(stage.submit("second").id)
        await stage.clock.settle()
        third = await stage.run("third")
        assert (begun, third.worker_id) == (["first", "third"], worker_id)


# Closing


async def test_closing_leaves_nothing_of_async_handlers():
    async with inline_stage(Meeting(), workers_max=2) as stage:
        for _ in range(3):
            stage.submit()
        await stage.clock.settle()
        stage.endpoint.close()
        assert await stage.launcher.close(5.0) == 0


async def test_a_reset_forgets_the_jobs_and_serves_on_with_new_workers():
    meeting = Meeting()
    async with inline_stage(meeting, workers_max=1) as stage:
        old = [stage.submit(n) for n in range(3)]
        await stage.clock.settle()
        assert stage.endpoint.reset(stage.launcher) == {"jobs": 3, "workers": 1}
        await stage.clock.settle()
        meeting.open.set()
        new = await stage.run("new")
        assert (new.status, {job.status for job in old}) == ("COMPLETED", {"CANCELLED"})
        assert stage.endpoint.health()["jobs"] == {
            "completed": 1, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 0
        }  # fmt: skip
        assert meeting.present == [0, "new"]
