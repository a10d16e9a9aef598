"""The log says why jobs wait, once for each reason of an endpoint."""

import pytest

from emulator import EndpointConfig
from tests.api.client import emulated
from tests.api.log_lines import log_lines

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr("emulator.history.queue_watch._LOOK_S", 0.01)


async def test_a_wait_is_told_with_its_reason_once_for_all_jobs():
    with log_lines() as log:
        async with emulated(workers_max=0) as client:
            first = await client.run()
            await client.run()
            await log.logged(f"ep job {first}: waiting: workersMax is 0")
            await client.post(f"/cancel/{first}")
            await client.emulator.create_endpoint("other", EndpointConfig(worker_kind="external"))
            await client.http.post("/v2/other/run", json={"input": 1})
            await log.logged("waiting: no external worker has come")
    assert sum("waiting: " in line for line in log.lines) == 2


async def test_a_job_that_is_served_is_no_news():
    with log_lines() as log:
        async with emulated() as client:
            for _ in range(3):
                await client.runsync()
            # It is a later wait that is told, so the looks have been taken.
            job_id = await client.run({"mock_delay": 60})
            await client.run({"mock_delay": 60})
            await log.logged("waiting: ")
    [told] = [line for line in log.lines if "waiting: " in line]
    assert "the only one, is busy; the clock is frozen, and" in told
    assert job_id not in told
