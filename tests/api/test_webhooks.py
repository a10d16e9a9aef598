"""Webhooks, against a real receiver on loopback, the attempts moved by the clock (wire.md 5)."""

import asyncio
import socket
from urllib.parse import urlsplit

import pytest

from emulator import Emulator, VirtualClock
from tests.api.client import client_of, emulated
from tests.api.receiver import HANG, receiving

pytestmark = pytest.mark.anyio


@pytest.fixture
def impatient_clock(monkeypatch):
    """Time is not held back by a call that hangs: the test itself waits until it has arrived."""
    monkeypatch.setattr("emulator.webhooks.deliveries._PATIENCE_S", 0.0)


def lines_about(caplog, job_id):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "emulator.webhooks" and job_id in record.getMessage()
    ]


# What is sent


async def test_the_body_is_the_status_body_with_input_and_webhook():
    job_input = {
        "z": 1,
        "a": [12345678901234567890, "ž"],
        "mock_delay": 0.157,
        "mock_return": {"b": 1, "a": 2},
    }
    async with receiving() as receiver, emulated(cold_start_ms=4_736) as client:
        job_id = await client.run(job_input, webhook=receiver.url, policy={"ttl": 60_000}, other=1)
        await client.clock.advance(5_000)
        [request] = receiver.requests
        assert list(request.job) == [
            "delayTime", "executionTime", "id", "input", "output", "status", "webhook",
        ]  # fmt: skip
        status = await client.status(job_id)
        del status["workerId"]
        assert request.job == {**status, "input": job_input, "webhook": receiver.url}
        assert (status["delayTime"], status["executionTime"]) == (4_736, 157)
        assert list(request.job["input"]) == ["z", "a", "mock_delay", "mock_return"]
        assert list(request.job["output"]) == ["b", "a"]


async def test_it_is_posted_as_json_to_the_very_url():
    async with receiving() as receiver, emulated() as client:
        await client.run(webhook=f"{receiver.url}/a%20b?token=1&x=%C5%BE")
        await receiver.received(1)
        [request] = receiver.requests
        assert (request.method, request.path) == ("POST", "/hook/a%20b?token=1&x=%C5%BE")
        assert request.headers["content-type"] == "application/json"
        assert request.headers["content-length"] == str(len(request.body))


async def test_the_callers_key_and_s3_config_are_not_sent():
    s3_config = {"accessId": "i", "accessSecret": "hidden-1", "bucketName": "b", "endpointUrl": "http://s3"}
    async with receiving() as receiver, emulated() as client:
        await client.post(
            "/run",
            json={"input": 1, "webhook": receiver.url, "s3Config": s3_config},
            headers={"authorization": "Bearer hidden-2"},
        )
        await receiver.received(1)
        [request] = receiver.requests
        assert b"hidden" not in request.body
        assert "hidden" not in str(request.headers)


# Every end is told, once


async def test_a_completed_job_is_told_once():
    async with receiving() as receiver, emulated() as client:
        body = await client.runsync(webhook=receiver.url)
        await client.clock.advance(86_400_000)
        assert receiver.states == [(body["id"], "COMPLETED")]


@pytest.mark.parametrize(
    ("job_input", "error"),
    [
        ({"mock_error": "no GPU"}, "no GPU"),
        ({"mock_delay": 900}, "executionTimeout exceeded"),
        ({}, "job timed out after 1 retries"),
        ({"mock_crash": True}, "job timed out after 1 retries"),
    ],
)
async def test_a_failed_job_is_told_once_with_its_error(job_input, error):
    async with receiving() as receiver, emulated() as client:
        job_id = await client.run(job_input, webhook=receiver.url)
        await client.clock.advance(600_000)
        await client.clock.advance(600_000)
        assert receiver.states == [(job_id, "FAILED")]
        [job] = receiver.jobs
        assert error in job["error"]
        assert job["input"] == job_input
        assert "output" not in job


async def test_a_cancelled_job_is_told_queued_or_running():
    async with receiving() as receiver, emulated(workers_max=1) as client:
        running = await client.run({"mock_delay": 60}, webhook=receiver.url)
        queued = await client.run(webhook=receiver.url)
        await client.clock.settle()
        await client.post(f"/cancel/{queued}")
        await receiver.received(1)
        await client.post(f"/cancel/{running}")
        await receiver.received(2)
        assert receiver.states == [(queued, "CANCELLED"), (running, "CANCELLED")]
        assert list(receiver.jobs[0]) == ["id", "input", "status", "webhook"]


async def test_purged_jobs_are_told():
    async with receiving() as receiver, emulated(workers_max=0) as client:
        ids = {await client.run(webhook=receiver.url) for _ in range(3)}
        await client.post("/purge-queue")
        await receiver.received(3)
        assert set(receiver.states) == {(job_id, "CANCELLED") for job_id in ids}


@pytest.mark.parametrize("workers", [0, 1], ids=["queued", "running"])
async def test_a_job_whose_ttl_ran_out_is_told(workers):
    async with receiving() as receiver, emulated(workers_max=workers) as client:
        job_id = await client.run({"mock_delay": 60}, webhook=receiver.url, policy={"ttl": 10_000})
        await client.clock.advance(10_000)
        assert receiver.states == [(job_id, "TIMED_OUT")]
        assert await client.is_gone(job_id)


async def test_a_job_that_is_queued_once_more_is_told_only_at_its_end():
    async with receiving() as receiver, emulated() as client:
        job_id = await client.run({"mock_crash": True}, webhook=receiver.url)
        await client.clock.settle()
        assert (await client.jobs())["retried"] == 1
        assert receiver.states == []
        await client.clock.advance(10_000)
        assert receiver.states == [(job_id, "FAILED")]


async def test_a_retried_job_is_told_of_again_each_time_as_it_was():
    attempts = []

    async def fails_first(_job):
        attempts.append(1)
        return {"error": "first"} if len(attempts) == 1 else "second"

    async with receiving(500, 200) as receiver, emulated(fails_first) as client:
        job_id = await client.run(webhook=receiver.url)
        await receiver.received(1)
        await client.post(f"/retry/{job_id}")
        await receiver.received(2)
        await client.clock.advance(10_000)
        assert receiver.states == [(job_id, "FAILED"), (job_id, "COMPLETED"), (job_id, "FAILED")]
        assert receiver.jobs[2] == receiver.jobs[0]


async def test_a_job_without_webhook_is_told_to_nobody():
    async with receiving() as receiver, emulated() as client:
        await client.run()
        await client.run(webhook=None)
        await client.run(webhook="")
        await client.clock.advance(60_000)
        assert receiver.requests == []


# What counts as received, and what happens when it is not


async def test_an_acknowledged_call_is_logged(caplog):
    caplog.set_level("INFO", "emulator")
    async with receiving() as receiver, emulated() as client:
        job_id = await client.run(webhook=f"{receiver.url}?token=secret")
        await client.clock.advance(0)
        assert lines_about(caplog, job_id) == [
            f"webhook of job {job_id}, attempt 1: {receiver.url}?*** → 200"
        ]


@pytest.mark.parametrize("status", [201, 202, 204, 299])
async def test_another_2xx_counts_with_a_warning(status, caplog):
    async with receiving(status) as receiver, emulated() as client:
        job_id = await client.run(webhook=receiver.url)
        await client.clock.advance(60_000)
        assert len(receiver.requests) == 1
        assert lines_about(caplog, job_id) == [
            f"webhook of job {job_id}, attempt 1: {receiver.url} → {status} counts as received,"
            " but the documents ask for 200"
        ]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 410, 429, 500, 503])
async def test_any_other_status_is_tried_three_times_ten_seconds_apart(status, caplog):
    async with receiving(status) as receiver, emulated() as client:
        job_id = await client.run(webhook=receiver.url)
        arrived = []
        for step_ms in (0, 9_999, 1, 9_999, 1, 10_000, 86_400_000):
            await client.clock.advance(step_ms)
            arrived.append(len(receiver.requests))
        assert arrived == [1, 1, 2, 2, 3, 3, 3]
        assert len({request.body for request in receiver.requests}) == 1
        assert {request.path for request in receiver.requests} == {"/hook"}
        failed = f"{receiver.url} → status {status}"
        assert lines_about(caplog, job_id) == [
            f"webhook of job {job_id}, attempt 1 of 3: {failed}; again in 10000 ms",
            f"webhook of job {job_id}, attempt 2 of 3: {failed}; again in 10000 ms",
            f"webhook of job {job_id}, attempt 3 of 3: {failed}; given up",
        ]


@pytest.mark.parametrize("answers", [(500, 200), (500, 503, 204)])
async def test_attempts_end_with_the_first_that_is_acknowledged(answers):
    async with receiving(*answers) as receiver, emulated() as client:
        await client.run(webhook=receiver.url)
        await client.clock.advance(100_000)
        assert len(receiver.requests) == len(answers)


async def test_a_refused_connection_is_tried_again(caplog):
    async with receiving() as receiver, emulated() as client:
        async with receiving() as gone:
            pass
        job_id = await client.run(webhook=gone.url)
        await client.clock.advance(20_000)
        first, second, third = lines_about(caplog, job_id)
        address = urlsplit(gone.url).netloc
        assert (
            f"attempt 1 of 3: {gone.url} → nobody listens at {address} (in a container, localhost is" in first
        )
        assert second.endswith("again in 10000 ms")
        assert third.endswith("given up")
        await client.run(webhook=receiver.url)
        await receiver.received(1)


async def test_a_receiver_whose_name_nobody_knows_is_named(caplog, monkeypatch):
    look_up = socket.getaddrinfo

    def look_up_here(host, *args, **kwargs):
        if host == "no-such-host.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)
    async with emulated() as client:
        job_id = await client.run(webhook="http://user:secret@no-such-host.invalid/hook")
        await client.clock.advance(20_000)
        first, *_ = lines_about(caplog, job_id)
        assert "no such host: no-such-host.invalid" in first
        assert "secret" not in first


async def test_a_call_that_is_not_answered_fails_after_ten_seconds(caplog, impatient_clock):
    async with receiving(HANG) as receiver, emulated() as client:
        job_id = await client.run(webhook=receiver.url)
        for attempt in (1, 2, 3):
            await receiver.received(attempt)
            await client.clock.advance(9_999)
            assert len(lines_about(caplog, job_id)) == attempt - 1
            await client.clock.advance(1)
            assert f"attempt {attempt} of 3: {receiver.url} → no answer within 10000 ms" in caplog.text
            await client.clock.advance(10_000)
        await client.clock.advance(60_000)
        assert len(receiver.requests) == 3


async def test_a_receiver_that_hangs_up_is_tried_again(caplog):
    async with receiving(HANG, 200) as receiver, emulated() as client:
        job_id = await client.run(webhook=receiver.url)
        await receiver.received(1)
        receiver.hang_up()
        await client.clock.advance(10_000)
        assert len(receiver.requests) == 2
        assert "attempt 1 of 3" in lines_about(caplog, job_id)[0]


async def test_a_slow_receiver_holds_up_no_other(impatient_clock):
    async with receiving(HANG) as slow, receiving() as quick, emulated() as client:
        for _ in range(100):
            await client.run(webhook=slow.url)
        await slow.received(32)
        told = [await client.run(webhook=quick.url) for _ in range(20)]
        await quick.received(20)
        assert {job_id for job_id, _ in quick.states} == set(told)
        assert len(slow.requests) == 32
        slow.release()


async def test_what_waits_for_a_slow_receiver_is_delivered_when_it_answers(impatient_clock):
    async with receiving(HANG) as slow, emulated() as client:
        told = [await client.run(webhook=slow.url) for _ in range(50)]
        await slow.received(32)
        slow.release()
        await slow.received(50)
        assert {job_id for job_id, _ in slow.states} == set(told)


async def test_a_password_in_the_url_is_used_but_not_logged(caplog):
    async with receiving(500) as receiver, emulated() as client:
        await client.run(webhook=f"http://me:hidden@127.0.0.1:{receiver.port}/hook?key=hidden")
        await client.clock.advance(20_000)
        assert receiver.requests[0].headers["authorization"].startswith("Basic ")
        assert len(receiver.requests) == 3
    assert "given up" in caplog.text
    assert "hidden" not in caplog.text


# The end of the emulator


async def test_at_the_end_a_call_in_flight_may_still_be_answered(caplog, impatient_clock):
    caplog.set_level("INFO", "emulator")
    async with receiving(HANG) as receiver:
        emulator = Emulator({"ep": None}, clock=VirtualClock())
        await emulator.start()
        async with client_of(emulator) as client:
            job_id = await client.run(webhook=receiver.url)
        await receiver.received(1)
        stopping = asyncio.get_running_loop().create_task(emulator.stop())
        await emulator.clock.settle()
        assert not stopping.done()
        receiver.release()
        await stopping
        assert lines_about(caplog, job_id) == [f"webhook of job {job_id}, attempt 1: {receiver.url} → 200"]


async def test_at_the_end_what_is_not_delivered_is_listed(caplog, impatient_clock, monkeypatch):
    monkeypatch.setattr("emulator.emulator._WEBHOOK_PATIENCE_S", 0.01)
    async with receiving(HANG) as hanging, receiving(500) as failing, receiving() as well:
        async with emulated() as client:
            in_flight = await client.run(webhook=f"{hanging.url}?token=hidden")
            between_attempts = await client.run(webhook=failing.url)
            delivered = await client.run(webhook=well.url)
            for receiver in (hanging, failing, well):
                await receiver.received(1)
            await client.clock.settle()
        assert f"webhook of job {in_flight} was not delivered: {hanging.url}?***" in caplog.messages
        assert f"webhook of job {between_attempts} was not delivered: {failing.url}" in caplog.messages
        assert lines_about(caplog, delivered) == []
        assert len(failing.requests) == 1
    assert "hidden" not in caplog.text


async def test_a_reset_drops_what_is_under_way(caplog):
    async with receiving(500) as receiver, emulated() as client:
        await client.run(webhook=receiver.url)
        await client.clock.advance(5_000)
        await client.http.post("/_emulator/reset")
        await client.clock.advance(60_000)
        assert len(receiver.requests) == 1
