"""State that outlives the process: what could be asked before its end can be asked after it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from emulator import Emulator, VirtualClock
from emulator.clock.clock import Clock
from emulator.clock.real_time import next_round
from emulator.errors import StateError
from emulator.ledger import database
from emulator.ledger.records import JobRecord, RequestRecord
from tests.api.client import emulated
from tests.api.receiver import HANG, receiving

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


async def written(client):
    """Return once all is on disk that has happened: such a call is answered then."""
    assert (await client.http.post("/_emulator/clock/advance", json={"by_ms": 0})).status_code == 200


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


@pytest.mark.parametrize("worker_kind", ["inline", "external"])
async def test_a_job_that_no_worker_ever_got_has_not_executed_for_too_long(path, worker_kind):
    body = {"input": {}, "policy": {"executionTimeout": 5_000}}
    async with kept(path, worker_kind=worker_kind) as client:
        job_id = (await client.post("/run", json=body)).json()["id"]
        taking = await client.begin("GET", "/job-take/w1?job_in_progress=0")
        await client.clock.advance(6_000)
        assert (await client.status(job_id))["status"] == "IN_PROGRESS"
        await written(client)
        path = crashed(path)
        taking.cancel()
    async with kept(path, worker_kind=worker_kind) as client:
        assert (await client.jobs())["retried"] == 1
        assert (await client.jobs())["failed"] == 0


async def test_an_end_on_purpose_is_no_fault_of_the_job(path):
    for _ in range(3):
        async with kept(path) as client:
            if not await listed(client):
                await client.run({"mock_delay": 60})
            [job_id] = await listed(client)
            body = await client.status(job_id)
            assert (body["status"], body.get("retries", 0)) == ("IN_PROGRESS", 0)


async def test_a_worker_gets_a_job_once_it_is_on_disk_who_has_it(path):
    async with kept(path, worker_kind="external") as client:
        job_id = await client.run()
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            taking = await client.begin("GET", "/job-take/w1?job_in_progress=0")
            while (await client.jobs())["inProgress"] == 0:
                await next_round()
            assert not taking.done()
        assert (await taking).json()["id"] == job_id


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


# Webhooks


async def test_a_webhook_goes_on_at_the_attempt_that_it_was_at(path):
    async with receiving(500, 500, 200) as receiver:
        async with kept(path) as client:
            job_id = await client.run({"mock_return": 1}, webhook=receiver.url)
            await receiver.received(1)
            await client.clock.advance(4_000)
            await written(client)
            path = crashed(path)
        async with kept(path) as client:
            await client.clock.advance(5_999)
            assert len(receiver.requests) == 1
            await client.clock.advance(1)
            await receiver.received(2)
            [delivery] = (await client.http.get("/_emulator/webhooks")).json()["webhooks"]
            assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 500]
            await written(client)
            path = crashed(path)
        async with kept(path) as client:
            await client.clock.advance(10_000)
            await receiver.received(3)
            await client.clock.settle()
        async with kept(path) as client:
            await client.clock.advance(60_000)
        assert receiver.states == [(job_id, "COMPLETED")] * 3


async def test_a_webhook_that_was_being_sent_is_sent_again(path):
    async with receiving(HANG, 200) as receiver:
        async with kept(path) as client:
            job_id = await client.run({"mock_return": 1}, webhook=receiver.url)
            await receiver.received(1)
            path = crashed(path)
            receiver.release()
        async with kept(path) as client:
            await receiver.received(2)
        assert receiver.states == [(job_id, "COMPLETED")] * 2


async def test_an_acknowledged_webhook_is_not_sent_again(path):
    async with receiving() as receiver:
        async with kept(path) as client:
            await client.run({"mock_return": 1}, webhook=receiver.url)
            await receiver.received(1)
            await client.clock.settle()
            await written(client)
            path = crashed(path)
        async with kept(path) as client:
            await client.clock.advance(60_000)
        assert len(receiver.requests) == 1


async def test_a_webhook_that_was_given_up_stays_so(path):
    async with receiving(500) as receiver:
        async with kept(path) as client:
            await client.run({"mock_return": 1}, webhook=receiver.url)
            await client.clock.advance(60_000)
            assert len(receiver.requests) == 3
            await written(client)
            path = crashed(path)
        async with kept(path) as client:
            await client.clock.advance(60_000)
        assert len(receiver.requests) == 3


async def test_a_reset_leaves_nothing(path):
    async with receiving(500) as receiver:
        async with kept(path) as client:
            job_id = await client.run({"mock_return": 1}, webhook=receiver.url)
            await receiver.received(1)
            await client.http.post("/_emulator/faults", json={"then": {"status": 503}})
            await client.http.post("/_emulator/reset")
            await written(client)
            path = crashed(path)
        async with kept(path) as client:
            assert await client.is_gone(job_id)
            assert (await client.jobs())["completed"] == 0
            await client.clock.advance(60_000)
        assert len(receiver.requests) == 1


# What was ordered, and time


async def test_faults_strike_on_where_they_were(path):
    rule = {"id": "r", "match": {"operation": "health"}, "probability": 0.5, "seed": 3, "skip": 2,
            "then": {"status": 503}}  # fmt: skip

    async def struck(client, times):
        return [(await client.get("/health")).status_code for _ in range(times)]

    async with emulated() as client:
        await client.http.post("/_emulator/faults", json=rule)
        expected = await struck(client, 24)
    assert {200, 503} == set(expected)
    async with kept(path) as client:
        await client.http.post("/_emulator/faults", json=rule)
        found = await struck(client, 12)
    async with kept(path) as client:
        found += await struck(client, 12)
        [shown] = (await client.http.get("/_emulator/faults")).json()["faults"]
        assert (shown["matched"], shown["fired"]) == (24, expected.count(503))
    assert found == expected


async def test_a_fault_that_comes_later_takes_no_other_ones_id(path):
    async with kept(path) as client:
        for status in (501, 502):
            await client.http.post("/_emulator/faults", json={"then": {"status": status}, "times": 0})
        await client.http.delete("/_emulator/faults/fault-1")
    async with kept(path) as client:
        await client.http.post("/_emulator/faults", json={"then": {"status": 503}, "times": 0})
        faults = (await client.http.get("/_emulator/faults")).json()["faults"]
        assert [rule["id"] for rule in faults] == ["fault-2", "fault-3"]


async def test_stubs_last_with_how_often_they_were_used(path):
    async with kept(path) as client:
        stub = {"when": {"input": {"a": {"$regex": "^x"}}}, "returns": 5, "chunks": [1], "times": 2}
        await client.http.post("/_emulator/endpoints/ep/stubs", json=stub)
        assert (await client.runsync({"a": "x1"}))["output"] == 5
        path = crashed(path)
    async with kept(path) as client:
        assert (await client.runsync({"a": "x2"}))["output"] == 5
        assert "used up" in (await client.runsync({"a": "x3"}))["error"]


async def test_endpoints_made_at_run_time_are_there_with_their_jobs_and_their_clock(path):
    async with kept(path) as client:
        settings = {
            "clock": "frozen",
            "worker_kind": "inline",
            "workers_max": 1,
            "execution_timeout_ms": 7_000,
        }
        await client.http.put("/_emulator/endpoints/other", json=settings)
        await client.http.post("/_emulator/clock/advance?endpoint=other", json={"by_ms": 5_000_000})
        await client.http.patch("/_emulator/endpoints/other", json={"idle_timeout_s": 77})
        job = (await client.http.post("/v2/other/runsync", json={"input": {"mock_return": 1}})).json()
        view = (await client.http.get("/_emulator/endpoints/other")).json()
        time = (await client.http.get("/_emulator/clock?endpoint=other")).json()["now_ms"]
        path = crashed(path)
    async with kept(path) as client:
        after = (await client.http.get("/_emulator/endpoints/other")).json()
        assert {**after, "health": 0} == {**view, "health": 0}
        assert (await client.http.get("/_emulator/clock?endpoint=other")).json()["now_ms"] == time
        assert (await client.http.get(f"/v2/other/status/{job['id']}")).json()["output"] == 1
        await client.http.delete("/_emulator/endpoints/other")
        path = crashed(path)
    async with kept(path) as client:
        assert (await client.http.get("/_emulator/endpoints/other")).status_code == 404


async def test_a_moved_clock_is_where_it_was_and_runs_as_it_was_made_to(path, monkeypatch):
    wall_ms = 1_800_000_000_000
    monkeypatch.setattr("emulator.clock.clock.wall_clock_ms", lambda: wall_ms)
    monkeypatch.setattr("emulator.ledger.parts.wall_clock_ms", lambda: wall_ms)
    async with kept(path, clock=Clock()) as client:
        await client.http.post("/_emulator/clock/advance", json={"by_ms": 86_400_000})
        await client.http.post("/_emulator/clock/freeze")
        frozen_ms = client.clock.now_ms()
        assert frozen_ms >= wall_ms + 86_400_000
    wall_ms += 3_600_000
    async with kept(path, clock=Clock()) as client:
        assert (client.clock.mode, client.clock.now_ms()) == ("frozen", frozen_ms)
        await client.http.post("/_emulator/clock/resume")
    wall_ms += 3_600_000
    async with kept(path, clock=Clock()) as client:
        assert client.clock.mode == "real"
        assert frozen_ms + 3_600_000 <= client.clock.now_ms() < frozen_ms + 7_200_000
    async with kept(path, clock=VirtualClock()) as client:
        assert client.clock.mode == "frozen"
        assert client.clock.now_ms() >= frozen_ms + 3_600_000


# Files that cannot be used


async def refusal(path):
    emulator = Emulator(state=path)
    with pytest.raises(StateError) as error:
        await emulator.start()
    return str(error.value)


async def test_a_file_has_one_emulator(path):
    async with kept(path) as client, client.emulator.serve() as url:
        told = await refusal(path)
        assert str(path) in told
        assert f"in use by process {os.getpid()} ({url})" in told
    async with kept(path) as client:
        assert await listed(client) == []


async def test_a_forked_child_does_not_hold_the_file(path):
    async with kept(path):
        ready, begin = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(ready, 1)
            os._exit(0)
    async with kept(path):
        os.write(begin, b"x")
    await asyncio.to_thread(os.waitpid, child, 0)
    os.close(ready)
    os.close(begin)


async def test_a_folder_is_no_file(tmp_path):
    assert await refusal(tmp_path) == f"the state file {tmp_path} is a folder: name a file in it"


async def test_a_file_in_no_folder(tmp_path):
    path = tmp_path / "no" / "state.db"
    assert f"there is no folder {path.parent}" in await refusal(path)


async def test_a_file_of_something_else(path):
    path.write_bytes(b"PNG" * 1_000)
    assert await refusal(path) == f"the state file {path} is no state file: name another"
    assert path.read_bytes() == b"PNG" * 1_000


async def test_a_database_of_another_program(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE job (number)")
    assert "is a database of another program" in await refusal(path)


async def test_a_file_of_a_later_version(path):
    async with kept(path):
        pass
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    assert "is of a later runpod-emulator (its version is 99" in await refusal(path)


async def test_a_file_of_the_first_version_is_taken_over(path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr("emulator.ledger.database._MIGRATIONS", database._MIGRATIONS[:1])
        before.setattr("emulator.ledger.database.VERSION", 1)
        before.setattr("emulator.ledger.database._TABLES", database._TABLES[:-1])
        old = database.Database(path)
        request = RequestRecord(
            7, "ep", "old", b'{"input":1}', None, False, False, None, 4 * 10**12, 600_000, 10_000, False
        )
        state = JobRecord(7, "IN_QUEUE", 4 * 10**12, None, None, None, None, None, False, 0, None, None, 1)
        old.write(database.Batch(requests=[request], jobs=[state]))
        old.close()
    async with receiving() as receiver:
        async with kept(path, worker_kind="external") as client:
            assert (await take(client))["id"] == "old"
            await client.run(webhook=receiver.url)
        async with kept(path, worker_kind="external") as client:
            assert len(await listed(client)) == 2


@pytest.mark.parametrize("where", [0.2, 0.5, 0.9], ids=str)
async def test_a_file_that_was_cut_short(path, where):
    async with kept(path, worker_kind="external") as client:
        for number in range(50):
            await client.run([number, "x" * 2_000])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * where)])
    assert f"the state file {path} is damaged" in await refusal(path)


async def test_a_byte_that_has_changed(path):
    async with kept(path, worker_kind="external") as client:
        await client.run("x" * 10_000)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"x" * 3_000)] = ord("y")
    path.write_bytes(whole)
    assert "is not as it was written" in await refusal(path)
