"""Each shape of a status body and of a webhook's body (wire.md 3 and 5)."""

import json

import pytest

from emulator.core.status_body import status_body, webhook_body
from tests.unit.manual_workers import Stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def stage():
    return Stage(workers_max=1)


def body_of(stage, job):
    text = status_body(job, stage.clock.now_ms())
    body = json.loads(text)
    assert list(body) == sorted(body)
    return body


async def started(stage, input="hello", **policy):
    """A job that a worker took after 824 ms in the queue."""
    job = stage.submit(input, **policy)
    await stage.clock.advance(824)
    assert await stage.take_one() is job
    return job


async def test_in_the_queue_a_job_has_an_id_and_a_status(stage):
    job = stage.submit()
    assert body_of(stage, job) == {"id": job.id, "status": "IN_QUEUE"}


async def test_in_progress_it_says_how_long_it_waited_and_for_whom(stage):
    job = await started(stage)
    assert body_of(stage, job) == {
        "delayTime": 824,
        "id": job.id,
        "status": "IN_PROGRESS",
        "workerId": job.worker_id,
    }


async def test_progress_shows_as_output_with_the_time_so_far(stage):
    job = await started(stage)
    await stage.clock.advance(157)
    stage.gateway.report_progress(job.worker_id, job.id, b'"half way"')
    assert body_of(stage, job) == {
        "delayTime": 824,
        "executionTime": 157,
        "id": job.id,
        "output": "half way",
        "status": "IN_PROGRESS",
        "workerId": job.worker_id,
    }


async def test_completed(stage):
    job = await started(stage)
    await stage.clock.advance(3_391)
    stage.finish(job, output_json=b'{"text": "\xc3\xa9"}')
    await stage.clock.advance(60_000)
    assert body_of(stage, job) == {
        "delayTime": 824,
        "executionTime": 3_391,
        "id": job.id,
        "output": {"text": "é"},
        "status": "COMPLETED",
        "workerId": job.worker_id,
    }


async def test_the_output_is_written_as_the_worker_wrote_it(stage):
    job = await started(stage)
    stage.finish(job, output_json=b'{"b": 12345678901234567890, "a": 1.10}')
    assert b'"output":{"b": 12345678901234567890, "a": 1.10},' in status_body(job, stage.clock.now_ms())


async def test_completed_without_output(stage):
    job = await started(stage)
    stage.finish(job, output_json=None, error=None)
    assert "output" not in body_of(stage, job)


async def test_null_is_an_output(stage):
    job = await started(stage)
    stage.finish(job, output_json=b"null")
    assert body_of(stage, job)["output"] is None


async def test_failed_with_what_was_left_as_output(stage):
    job = await started(stage)
    await stage.clock.advance(5)
    stage.finish(job, output_json=b'{"extra":1}', error='it said "no"\n漢')
    assert body_of(stage, job) == {
        "delayTime": 824,
        "error": 'it said "no"\n漢',
        "executionTime": 5,
        "id": job.id,
        "output": {"extra": 1},
        "status": "FAILED",
        "workerId": job.worker_id,
    }


async def test_failed_progress_is_no_output(stage):
    job = await started(stage)
    stage.gateway.report_progress(job.worker_id, job.id, b'"half way"')
    stage.finish(job, error="bad")
    assert "output" not in body_of(stage, job)


async def test_execution_timeout(stage):
    job = await started(stage, executionTimeout=5_001)
    await stage.clock.advance(5_001)
    assert body_of(stage, job) == {
        "delayTime": 824,
        "error": "executionTimeout exceeded",
        "executionTime": 5_001,
        "id": job.id,
        "status": "FAILED",
        "workerId": job.worker_id,
    }


async def test_lost_once_it_waits_again_and_its_delay_is_measured_anew(stage):
    job = await started(stage)
    stage.gateway.crashed(job.worker_id, "it died")
    assert body_of(stage, job) == {"id": job.id, "status": "IN_QUEUE"}

    await stage.clock.advance(1_000)
    assert await stage.take_one() is job
    assert body_of(stage, job) == {
        "delayTime": 1_000,
        "id": job.id,
        "retries": 1,
        "status": "IN_PROGRESS",
        "workerId": job.worker_id,
    }


async def test_lost_twice(stage):
    job = await started(stage)
    stage.gateway.crashed(job.worker_id, "it died")
    await stage.clock.advance(1_000)
    await stage.take_one()
    await stage.clock.advance(42_078)
    stage.gateway.crashed(job.worker_id, "it died")
    assert body_of(stage, job) == {
        "delayTime": 1_000,
        "error": "job timed out after 1 retries",
        "executionTime": 42_078,
        "id": job.id,
        "retries": 1,
        "status": "FAILED",
        "workerId": job.worker_id,
    }


async def test_cancelled_in_the_queue(stage):
    job = stage.submit()
    stage.endpoint.cancel(job.id)
    assert body_of(stage, job) == {"id": job.id, "status": "CANCELLED"}


async def test_cancelled_while_running(stage):
    job = await started(stage)
    await stage.clock.advance(10)
    stage.endpoint.cancel(job.id)
    assert body_of(stage, job) == {
        "delayTime": 824,
        "executionTime": 10,
        "id": job.id,
        "status": "CANCELLED",
        "workerId": job.worker_id,
    }


async def test_timed_out_in_the_queue(stage):
    job = stage.submit(ttl=10_000)
    await stage.clock.advance(10_000)
    assert body_of(stage, job) == {"id": job.id, "status": "TIMED_OUT"}


async def test_timed_out_while_running(stage):
    job = await started(stage, ttl=10_000)
    await stage.clock.advance(10_000)
    assert body_of(stage, job) == {
        "delayTime": 824,
        "executionTime": 9_176,
        "id": job.id,
        "status": "TIMED_OUT",
        "workerId": job.worker_id,
    }


async def test_retried_it_is_as_new(stage):
    job = await started(stage)
    stage.finish(job, output_json=b"1", error="bad")
    stage.endpoint.retry(job.id)
    assert body_of(stage, job) == {"id": job.id, "status": "IN_QUEUE"}


async def test_what_was_sent_is_never_echoed(stage):
    job = stage.endpoint.submit({
        "input": "sesame", "webhook": "https://example.com/sesame", "s3Config": {"accessSecret": "sesame"}
    })  # fmt: skip
    await stage.take_one()
    stage.finish(job)
    assert b"sesame" not in status_body(job, stage.clock.now_ms())


# Webhooks


async def ended(stage, request, **result):
    job = stage.endpoint.submit(request)
    await stage.clock.advance(4_736)
    await stage.take_one()
    await stage.clock.advance(157)
    stage.finish(job, **result)
    return job


async def test_a_webhook_gets_the_status_with_input_and_address(stage):
    request = {"input": {"prompt": "hé", "n": 2**70}, "webhook": "https://example.com/hook"}
    job = await ended(stage, request, output_json=b'{"z": 1, "a": [1.5]}')
    assert webhook_body(job).decode() == (
        f'{{"delayTime":4736,"executionTime":157,"id":"{job.id}",'
        '"input":{"prompt":"hé","n":1180591620717411303424},'
        '"output":{"z": 1, "a": [1.5]},"status":"COMPLETED",'
        '"webhook":"https://example.com/hook"}'
    )


async def test_a_webhook_hears_of_a_failure(stage):
    job = await ended(stage, {"input": [1], "webhook": "https://example.com/hook"}, error="bad")
    assert json.loads(webhook_body(job)) == {
        "delayTime": 4_736,
        "error": "bad",
        "executionTime": 157,
        "id": job.id,
        "input": [1],
        "status": "FAILED",
        "webhook": "https://example.com/hook",
    }


async def test_a_webhook_hears_of_a_job_that_never_ran(stage):
    job = stage.endpoint.submit({"input": "x", "webhook": "https://example.com/hook", "s3Config": {"a": "b"}})
    await stage.clock.advance(86_400_000)
    assert json.loads(webhook_body(job)) == {
        "id": job.id,
        "input": "x",
        "status": "TIMED_OUT",
        "webhook": "https://example.com/hook",
    }


async def test_a_webhook_carries_numbers_python_has_no_float_for(stage):
    job = await ended(stage, {"input": 1, "webhook": "https://example.com/hook"}, output_json=b"[1e999]")
    assert b'"output":[1e999],' in webhook_body(job)
