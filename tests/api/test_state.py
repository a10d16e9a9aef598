"""State that outlives the process: what could be asked before its end can be asked after it."""

from __future__ import annotations

import json
import shutil

import pytest

from emulator import VirtualClock
from emulator.clock.clock import Clock
from tests.api.client import emulated

pytestmark = pytest.mark.anyio


def crashed(path):
    """The files as they are at this moment, which is what a process that is killed leaves."""
    copy = path.with_name(f"{path.name}.crashed")
    for file in path.parent.glob(f"{copy.name}*"):
        file.unlink()
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


def kept(state, handler=None, clock=None, **config):
    """An emulator with its state in a file; its clock stands still."""
    return emulated(handler, options={"state": state, "clock": clock or VirtualClock()}, **config)


async def listed(client):
    jobs = (await client.get("/requests?limit=1000")).json()["requests"]
    return [job["id"] for job in jobs]


async def take(client, worker="w1", holds_nothing=True):
    answer = await client.get(f"/job-take/{worker}?job_in_progress={0 if holds_nothing else 1}")
    return answer.json() if answer.status_code == 200 else None


async def done(client, job_id, body, worker="w1"):
    return await client.post(f"/job-done/{worker}/{job_id}", content=json.dumps(body))


# What lasts


async def test_ended_jobs_are_found_with_all_they_had(path):
    async with kept(path) as client:
        good = await client.run({"mock_return": {"b": [2**70, "ž"], "a": 1}}, extra=[1])
        bad = await client.run({"mock_error": "it broke: ž"})
        sync = (await client.runsync({"mock_return": 1}))["id"]
        bodies = [await client.status(job_id) for job_id in (good, bad, sync)]
        health = await client.jobs()
        order = await listed(client)
    async with kept(path) as client:
        assert [await client.status(job_id) for job_id in (good, bad, sync)] == bodies
        assert await client.jobs() == health
        assert await listed(client) == order


async def test_queued_jobs_keep_their_order_and_their_policies(path):
    async with kept(path, worker_kind="external") as client:
        ids = [await client.run(number, policy={"ttl": 20_000 + number}) for number in range(40)]
        await client.post(f"/cancel/{ids[7]}")
        copy = crashed(path)
        start_ms = client.clock.now_ms()
    async with kept(copy, worker_kind="external") as client:
        assert client.clock.now_ms() == start_ms
        taken = [await take(client, f"w{number}") for number in range(39)]
        assert [job["id"] for job in taken] == [each for each in ids if each != ids[7]]
        assert [job["policy"] for job in taken[:2]] == [{"ttl": 20_000}, {"ttl": 20_001}]
        assert (await client.status(ids[7]))["status"] == "CANCELLED"
        again = crashed(copy)
        await client.clock.advance(20_003)
        assert await client.is_gone(ids[3])
        assert not await client.is_gone(ids[4])
    async with kept(again, worker_kind="external") as client:
        assert {(await client.status(job_id))["status"] for job_id in ids} == {"IN_PROGRESS", "CANCELLED"}


async def test_the_order_holds_over_several_lives(path):
    ids = []
    for life in range(3):
        async with kept(path, worker_kind="external") as client:
            ids += [await client.run([life, number]) for number in range(3)]
            path = crashed(path) if life == 1 else path
    async with kept(path, worker_kind="external") as client:
        assert [(await take(client, f"w{number}"))["id"] for number in range(6)] == ids[:6]


async def test_chunks_that_nobody_has_read_are_there(path):
    async with kept(path, worker_kind="external") as client:
        job_id = await client.run()
        await take(client)
        for number in range(5):
            await client.post(f"/job-stream/w1/{job_id}", content=json.dumps({"output": number}))
            if number == 1:
                read = (await client.get(f"/stream/{job_id}")).json()["stream"]
                assert read == [{"output": 0}, {"output": 1}]
        await done(client, job_id, {"output": "all"})
    async with kept(path, worker_kind="external") as client:
        body = (await client.get(f"/stream/{job_id}")).json()
        assert body == {"status": "COMPLETED", "stream": [{"output": number} for number in (2, 3, 4)]}


async def test_retention_goes_on(path):
    async with kept(path, retention_ms=10_000) as client:
        job_id = await client.run({"mock_return": 1})
        await client.ended(job_id)
        await client.clock.advance(9_000)
    async with kept(path, retention_ms=10_000) as client:
        assert (await client.status(job_id))["output"] == 1
        await client.clock.advance(1_000)
        assert await client.is_gone(job_id)
    async with kept(path, retention_ms=10_000) as client:
        assert await client.is_gone(job_id)


async def test_what_fell_due_meanwhile_falls_due_at_the_start(path, monkeypatch):
    now_ms = 1_800_000_000_000
    monkeypatch.setattr("emulator.clock.clock.wall_clock_ms", lambda: now_ms)
    monkeypatch.setattr("emulator.ledger.parts.wall_clock_ms", lambda: now_ms)
    async with kept(path, worker_kind="external", clock=Clock()) as client:
        short = await client.run(policy={"ttl": 60_000})
        long = await client.run(policy={"ttl": 3_600_000})
    now_ms += 120_000
    async with kept(path, worker_kind="external", clock=Clock()) as client:
        assert client.clock.now_ms() >= now_ms
        assert await client.is_gone(short)
        assert (await take(client))["id"] == long


async def test_a_retry_lasts(path):
    async with kept(path, worker_kind="external") as client:
        job_id = await client.run()
        await take(client)
        await done(client, job_id, {"error": "bad"})
        await client.post(f"/retry/{job_id}")
    async with kept(path, worker_kind="external") as client:
        assert (await client.status(job_id))["status"] == "IN_QUEUE"
        assert (await client.jobs())["retried"] == 1


# What was running


async def test_a_job_that_our_worker_had_is_queued_again_once(path):
    async with kept(path) as client:
        job_id = await client.run({"mock_delay": 60})
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"
        path = crashed(path)
    async with kept(path) as client:
        body = await client.status(job_id)
        assert (body["status"], body["retries"]) == ("IN_PROGRESS", 1)
        path = crashed(path)
    async with kept(path) as client:
        body = await client.status(job_id)
        assert (body["status"], body["error"]) == ("FAILED", "job timed out after 1 retries")


async def test_an_end_on_purpose_is_no_fault_of_the_job(path):
    for _ in range(3):
        async with kept(path) as client:
            if not await listed(client):
                await client.run({"mock_delay": 60})
            [job_id] = await listed(client)
            body = await client.status(job_id)
            assert (body["status"], body.get("retries", 0)) == ("IN_PROGRESS", 0)


async def test_an_external_worker_brings_its_result_to_the_next_process(path):
    async with kept(path, worker_kind="external") as client:
        job_id = await client.run()
        await take(client)
        path = crashed(path)
    async with kept(path, worker_kind="external") as client:
        assert (await client.status(job_id))["workerId"] == "w1"
        await client.clock.advance(39_999)
        other = await client.begin("GET", "/job-take/w2?job_in_progress=0")
        assert (await done(client, job_id, {"output": 5})).status_code == 200
        assert (await client.status(job_id))["output"] == 5
        assert not other.done()
        other.cancel()


async def test_an_external_worker_that_does_not_come_back_has_lost_its_job(path):
    async with kept(path, worker_kind="external") as client:
        job_id = await client.run()
        await take(client)
        path = crashed(path)
    async with kept(path, worker_kind="external") as client:
        await client.clock.advance(40_000)
        assert (await client.status(job_id))["status"] == "IN_QUEUE"
        assert (await client.jobs())["retried"] == 1
        assert (await take(client, "w2"))["id"] == job_id
        assert (await done(client, job_id, {"output": 5})).status_code == 200
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"


async def test_an_external_worker_that_asks_anew_has_lost_its_job(path):
    async with kept(path, worker_kind="external") as client:
        job_id = await client.run()
        await take(client)
        path = crashed(path)
    async with kept(path, worker_kind="external") as client:
        assert (await take(client))["id"] == job_id
        assert (await client.status(job_id))["retries"] == 1


# Bounds


async def test_what_has_expired_leaves_the_file(path):
    async with kept(path, retention_ms=1_000) as client:
        for _ in range(40):
            await client.ended(await client.run({"mock_return": "x" * 100_000}))
        assert path.stat().st_size > 4_000_000
        await client.clock.advance(1_000)
    assert path.stat().st_size < 200_000
    assert not path.with_name("state.db-wal").exists()


async def test_without_a_file_nothing_lasts(tmp_path):
    async with emulated() as client:
        job_id = await client.run({"mock_return": 1})
    async with emulated() as client:
        assert await client.is_gone(job_id)
    assert list(tmp_path.iterdir()) == []
