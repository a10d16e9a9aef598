"""What clients can count on: ids, waits, streams, cancel, retry, retention, listing (wire.md 2 to 4)."""

import asyncio
import json
import re

import pytest

from emulator.core.job import IllegalTransition, JobStatus
from emulator.errors import InvalidRequest, JobNotFound, MalformedRequest, NotRetryable
from tests.unit.manual_workers import Stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def stage():
    return Stage(workers_max=1)


def start(coroutine):
    return asyncio.get_running_loop().create_task(coroutine)


async def started(stage, input="hello", **policy):
    job = stage.submit(input, **policy)
    assert await stage.take_one() is job
    return job


# Submitting


def test_ids_are_unique_and_look_like_productions(stage):
    jobs = [stage.submit() for _ in range(100)]
    assert len({job.id for job in jobs}) == 100
    uuid4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(f"{uuid4}-u1", job.id) for job in jobs)
    assert re.fullmatch(f"sync-{uuid4}-u1", stage.endpoint.submit({"input": 1}, sync=True).id)


def test_a_refused_request_leaves_no_job(stage):
    with pytest.raises(MalformedRequest):
        stage.endpoint.submit({})
    with pytest.raises(InvalidRequest):
        stage.endpoint.submit({"input": 1, "policy": {"ttl": 1}})
    assert stage.endpoint.list_jobs(offset=0, limit=10) == ([], 0)


def test_a_misspelt_key_is_told_to_a_person(stage):
    stage.endpoint.submit({"input": 1, "webHook": ""})
    assert stage.notices() == ["webHook has no effect: did you mean webhook?"]


async def test_an_empty_input_never_arrives_and_is_missed_twice(stage):
    job = stage.submit({})
    assert any("the SDK in a worker drops such a job" in notice for notice in stage.notices())
    [worker_id] = stage.launcher.alive
    task = start(stage.gateway.take(worker_id))
    await stage.clock.settle()
    assert (job.status, task.done(), stage.workers()) == ("IN_PROGRESS", False, {"idle": 1})

    next_job = stage.submit()
    assert await task == [next_job]
    await stage.clock.advance(40_000)
    assert (job.status, job.retries) == ("IN_QUEUE", 1)
    stage.finish(next_job)
    assert await stage.take(worker_id) == []
    await stage.clock.advance(40_000)
    assert (job.status, job.error) == ("FAILED", "job timed out after 1 retries")


# Waiting


async def test_everyone_who_waits_is_woken_by_the_end(stage):
    job = await started(stage)
    waits = [start(stage.endpoint.wait(job, 90_000)) for _ in range(3)]
    await stage.clock.advance(89_999)
    assert not any(wait.done() for wait in waits)
    stage.finish(job)
    await asyncio.gather(*waits)
    assert job.status == "COMPLETED"
    await stage.endpoint.wait(job, 90_000)


async def test_a_wait_ends_when_its_time_is_up_and_the_job_goes_on(stage):
    job = await started(stage)
    wait = start(stage.endpoint.wait(job, 1_000))
    await stage.clock.settle()
    await stage.clock.advance(1_000)
    await wait
    assert job.status == "IN_PROGRESS"


async def test_closing_answers_those_who_wait(stage):
    job = stage.submit()
    waits = [start(stage.endpoint.wait(job, 90_000)), start(stage.endpoint.read_stream(job, 9_000))]
    await stage.clock.settle()
    stage.endpoint.close()
    await asyncio.gather(*waits)
    assert (job.status, stage.launcher.alive) == ("IN_QUEUE", [])


async def test_whoever_waits_learns_of_the_ttls_end_and_nobody_else(stage):
    job = stage.submit(ttl=10_000)
    wait = start(stage.endpoint.wait(job, 90_000))
    await stage.clock.advance(10_000)
    await wait
    assert job.status == "TIMED_OUT"
    with pytest.raises(JobNotFound):
        stage.endpoint.get(job.id)


# Streams


async def test_a_read_hands_out_each_chunk_once(stage):
    job = await started(stage)
    for n in range(3):
        stage.gateway.push_chunk(job.worker_id, job.id, b"%d" % n)
    assert await stage.endpoint.read_stream(job, 9_000) == ("IN_PROGRESS", [b"0", b"1", b"2"])
    later = start(stage.endpoint.read_stream(job, 9_000))
    await stage.clock.advance(8_999)
    assert not later.done()
    stage.gateway.push_chunk(job.worker_id, job.id, b"3")
    assert await later == ("IN_PROGRESS", [b"3"])


async def test_an_empty_read_ends_when_its_time_is_up(stage):
    job = stage.submit()
    read = start(stage.endpoint.read_stream(job, 9_000))
    await stage.clock.settle()
    await stage.clock.advance(9_000)
    assert await read == ("IN_QUEUE", [])


async def test_the_end_comes_with_the_last_chunks_only(stage):
    job = await started(stage)
    for n in range(450):
        stage.gateway.push_chunk(job.worker_id, job.id, b"%d" % n)
    stage.finish(job)
    reads = [await stage.endpoint.read_stream(job, 9_000) for _ in range(4)]
    assert [(status, len(chunks)) for status, chunks in reads] == [
        ("IN_PROGRESS", 200),
        ("IN_PROGRESS", 200),
        ("COMPLETED", 50),
        ("COMPLETED", 0),
    ]
    assert [chunk for _, chunks in reads for chunk in chunks] == [b"%d" % n for n in range(450)]


async def test_a_waiting_reader_is_woken_by_the_end(stage):
    job = await started(stage)
    read = start(stage.endpoint.read_stream(job, 9_000))
    await stage.clock.settle()
    stage.endpoint.cancel(job.id)
    assert await read == ("CANCELLED", [])


@pytest.mark.parametrize("letter", ["a", "é", "😀", "\n", "\x01", '"'])
async def test_a_string_too_large_for_one_chunk_is_split(stage, letter):
    job = await started(stage)
    text = letter * 700_000
    stage.gateway.push_chunk(job.worker_id, job.id, json.dumps(text, ensure_ascii=False).encode())
    _, chunks = await stage.endpoint.read_stream(job, 9_000)
    assert all(len(chunk) <= 1_000_000 for chunk in chunks)
    assert "".join(json.loads(chunk) for chunk in chunks) == text


async def test_a_large_object_is_one_chunk(stage):
    job = await started(stage)
    chunk = json.dumps({"text": "a" * 2_000_000}).encode()
    stage.gateway.push_chunk(job.worker_id, job.id, chunk)
    assert (await stage.endpoint.read_stream(job, 9_000))[1] == [chunk]


# Cancel, retry, purge


async def test_a_cancelled_job_is_never_delivered(stage):
    first, second = stage.submit(), stage.submit()
    assert stage.endpoint.cancel(first.id) is first
    assert await stage.take_one() is second


async def test_cancelling_what_has_ended_changes_nothing(stage):
    job = await started(stage)
    stage.finish(job, output_json=b"1")
    assert (stage.endpoint.cancel(job.id).status, job.output) == ("COMPLETED", 1)


@pytest.mark.parametrize("operation", ["get", "cancel", "retry"])
def test_an_unknown_job_is_not_found(stage, operation):
    with pytest.raises(JobNotFound, match="job not found"):
        getattr(stage.endpoint, operation)("nobody")


async def test_a_failed_job_can_be_retried_as_often_as_it_fails(stage):
    job = await started(stage, {"n": 1})
    for attempt in range(3):
        stage.gateway.push_chunk(job.worker_id, job.id, b"1")
        stage.finish(job, output_json=b"1", error=f"attempt {attempt}")
        stage.endpoint.retry(job.id)
        assert (job.status, job.output_json, job.error, job.chunks) == ("IN_QUEUE", None, None, None)
        assert await stage.take_one() is job
        assert job.payload() == {"input": {"n": 1}, "policy": {}, "id": job.id}
    stage.finish(job)
    jobs = stage.endpoint.health()["jobs"]
    assert (jobs["completed"], jobs["failed"], jobs["retried"]) == (1, 0, 3)


async def test_a_retry_ends_the_retention_and_keeps_the_first_ttl(stage):
    job = await started(stage, ttl=3_600_000)
    stage.finish(job, error="bad")
    await stage.clock.advance(1_799_999)
    stage.endpoint.retry(job.id)
    await stage.clock.advance(1_800_000)
    assert stage.endpoint.get(job.id).status == "IN_QUEUE"
    await stage.clock.advance(1)
    assert (job.status, job.ended_ms - job.submitted_ms) == ("TIMED_OUT", 3_600_000)


async def test_what_has_not_failed_or_has_expired_cannot_be_retried(stage):
    queued = stage.submit()
    with pytest.raises(NotRetryable, match="bad request: job is IN_QUEUE: only a FAILED or TIMED_OUT"):
        stage.endpoint.retry(queued.id)
    stage.endpoint.cancel(queued.id)
    with pytest.raises(NotRetryable, match="job is CANCELLED"):
        stage.endpoint.retry(queued.id)
    job = await started(stage, ttl=10_000)
    stage.finish(job, error="bad")
    await stage.clock.advance(10_000)
    with pytest.raises(NotRetryable, match="expired"):
        stage.endpoint.retry(job.id)
    assert job.status == "FAILED"


async def test_purging_ends_the_queued_jobs_and_no_others(stage):
    running = await started(stage)
    queued = [stage.submit(lowPriority=n % 2 == 0) for n in range(5)]
    assert (stage.endpoint.purge_queue(), stage.endpoint.purge_queue()) == (5, 0)
    assert {job.status for job in queued} == {"CANCELLED"}
    assert stage.finish(running)


# Retention and listing


@pytest.mark.parametrize(("sync", "kept_ms"), [(False, 1_800_000), (True, 60_000)])
@pytest.mark.parametrize("end", ["finish", "cancel"])
async def test_results_are_kept_for_a_while(stage, sync, kept_ms, end):
    job = stage.endpoint.submit({"input": 1}, sync=sync)
    await stage.take_one()
    if end == "finish":
        stage.finish(job)
    else:
        stage.endpoint.cancel(job.id)
    await stage.clock.advance(kept_ms - 1)
    assert stage.endpoint.get(job.id) is job
    await stage.clock.advance(1)
    with pytest.raises(JobNotFound):
        stage.endpoint.get(job.id)
    assert stage.clock.pending() == []


async def test_jobs_are_listed_newest_first(stage):
    jobs = [stage.submit() for _ in range(5)]
    stage.endpoint.cancel(jobs[1].id)
    stage.endpoint.cancel(jobs[3].id)
    newest = jobs[::-1]
    assert stage.endpoint.list_jobs(offset=0, limit=10) == (newest, 5)
    assert stage.endpoint.list_jobs(offset=1, limit=2) == (newest[1:3], 5)
    assert stage.endpoint.list_jobs(offset=9, limit=2) == ([], 5)
    cancelled = stage.endpoint.search_jobs(offset=1, limit=5, status=JobStatus.CANCELLED)
    assert await cancelled == ([jobs[1]], 2)


async def test_a_purge_in_pieces_leaves_what_comes_or_is_taken_meanwhile(stage):
    jobs = [stage.submit() for _ in range(5)]
    purging = stage.endpoint.purging()
    assert next(purging) is jobs[0]
    taken = stage.endpoint.queue.pop()
    late = stage.submit()
    low = stage.submit(policy={"lowPriority": True})
    assert list(purging) == jobs[2:]
    assert taken is jobs[1]
    assert [job.status for job in (taken, late, low)] == [JobStatus.IN_QUEUE] * 3
    assert list(stage.endpoint.queued()) == [late, low]


async def test_a_reset_in_pieces_forgets_what_was_there_and_keeps_what_comes(stage):
    before = [stage.submit() for _ in range(3)]
    resetting = stage.endpoint.resetting(None)
    next(resetting)
    late, ended = stage.submit(), stage.submit()
    stage.endpoint.cancel(ended.id)
    assert sum(1 for _ in resetting) == 2
    assert stage.endpoint.list_jobs(offset=0, limit=9) == ([ended, late], 2)
    for status, job in ((JobStatus.IN_QUEUE, late), (JobStatus.CANCELLED, ended)):
        assert await stage.endpoint.search_jobs(offset=0, limit=9, status=status) == ([job], 1)
    assert {job.status for job in before} == {JobStatus.CANCELLED}
    assert {timer.argument for timer in stage.clock.pending()} == {late, ended}


def test_a_move_that_makes_no_sense_is_refused(stage):
    job = stage.submit()
    stage.endpoint.cancel(job.id)
    with pytest.raises(IllegalTransition, match=f"job {job.id} cannot go from CANCELLED to COMPLETED"):
        job.move_to(JobStatus.COMPLETED)
