"""What calls of webhooks leave behind: nothing (attack.md 4, 10, 26)."""

import gc
import os
from pathlib import Path

import pytest

from emulator import Clock
from emulator.webhooks.deliveries import Webhooks
from tests.api.client import emulated
from tests.api.receiver import receiving

pytestmark = pytest.mark.anyio

on_both_loops = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": True}), ("asyncio", {"use_uvloop": False})]
)
JOBS = 1_000
#: Connections that are kept for the next call.
KEPT_ALIVE = 32


def open_files():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def all_over(client):
    while True:
        await client.clock.settle()
        webhooks = (await client.http.get("/_emulator/webhooks")).json()["webhooks"]
        if webhooks and all(webhook["over"] for webhook in webhooks):
            return webhooks


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files cannot be counted here")
@on_both_loops
async def test_attempts_that_time_out_leave_no_socket():
    """At scaled:600 ten seconds are 17 ms: of 1500 jobs, 457 to 669 sockets stayed open for ever (10)."""
    clock = Clock(rate=600)
    async with receiving() as receiver, emulated(lambda job: 1, options={"clock": clock}) as client:
        await client.runsync(webhook=receiver.url)
        await all_over(client)
        before = open_files()
        endpoint = client.emulator.endpoint("ep")
        jobs = [endpoint.submit({"input": 1, "webhook": receiver.url}) for _ in range(JOBS)]
        await endpoint.wait(jobs[-1], None)
        await all_over(client)
        receiver.hang_up()
        await client.clock.settle()
        assert open_files() - before <= KEPT_ALIVE


async def test_a_delivery_that_fails_by_itself_is_told_of_and_is_over(monkeypatch, caplog):
    """It was over without an attempt, or a word (4)."""
    async with receiving() as receiver, emulated() as client:
        with monkeypatch.context() as patched:
            patched.setattr(Webhooks, "_attempt", lambda *_: 1 / 0)
            await client.runsync(webhook=receiver.url)
            [webhook] = await all_over(client)
        told = [attempt["failure"] for attempt in webhook["attempts"]]
        assert told == ["a bug of the emulator: ZeroDivisionError"]
        assert "is given up: this is a bug of the emulator" in caplog.text
        job = await client.runsync(webhook=receiver.url)
        await receiver.received(1)
        assert receiver.states == [(job["id"], "COMPLETED")]


async def test_receivers_that_are_called_no_more_are_forgotten():
    """One was kept for each host and port that any job had named (26)."""
    async with emulated() as client:
        for port in range(1, 4):
            await client.runsync(webhook=f"http://127.0.0.1:{port}/")
        await client.clock.advance(60_000)
        assert len(await all_over(client)) == 3
        gc.collect()
        assert len(client.emulator._webhooks._receivers) == 0
