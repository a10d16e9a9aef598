"""What the log says of what happens: enough to mend a handler by."""

import logging

import pytest

from tests.api.client import emulated

pytestmark = pytest.mark.anyio


def handler(job):
    return 1 / job["input"]


async def test_an_exception_is_a_warning_with_the_line_that_raised_it(caplog):
    async with emulated(handler) as client:
        await client.ended(await client.run(0))
    record = next(record for record in caplog.records if "FAILED" in record.getMessage())
    assert record.levelno == logging.WARNING
    lines = [line.strip() for line in record.getMessage().splitlines()]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert 'return 1 / job["input"]' in lines


async def test_what_is_done_to_the_clock_and_to_the_jobs_is_told(caplog):
    caplog.set_level(logging.INFO, "emulator")
    async with emulated() as client:
        await client.run({"mock_delay": 1})
        await client.http.post("/_emulator/clock/advance", json={"by_ms": 500})
        await client.http.post("/_emulator/clock/resume")
        await client.http.post("/_emulator/clock/freeze")
        await client.http.post("/_emulator/reset")
    told = [record.getMessage() for record in caplog.records if record.name == "emulator.api"]
    assert told[1:] == [
        "clock advanced by 500 ms: 0 timers fired",
        "clock resumed: real",
        "clock: frozen",
        "reset: 1 jobs forgotten",
    ]


async def test_what_is_to_come_is_said_to_be_missing():
    async with emulated() as client:
        detail = (await client.http.get("/v2/ep/batch")).json()["detail"]
    assert detail == "no such operation: '/v2/ep/batch': this version does not emulate it yet"
