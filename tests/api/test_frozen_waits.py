"""Nobody waits for ever on a clock that is frozen: the answer comes soon, and says what it waits for."""

import httpx
import pytest

from emulator import Emulator, EndpointConfig
from tests.api.client import emulated
from tests.api.log_lines import log_lines
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr("emulator.clock.waiting._IN_VAIN_S", 0.02)
    monkeypatch.setattr("emulator.clock.waiting._LOOK_S", 0.01)


async def test_runsync_answers_with_the_job_as_it_stands_and_a_hint():
    with log_lines() as log:
        async with emulated() as client:
            answer = await client.post("/runsync", json={"input": {"mock_delay": 20}})
            body = answer.json()
            assert (answer.status_code, body["status"]) == (200, "IN_PROGRESS")
            hint = answer.headers["x-emulator-hint"]
            assert hint.startswith("the clock is frozen, and ")
            assert hint.endswith(" is due in 20000 ms: advance it")
            await log.logged(f"ep job {body['id']}: a client waits in vain: {hint}")
            again = await client.get(f"/status-sync/{body['id']}")
            assert again.headers["x-emulator-hint"] == hint
            await client.clock.advance(20_000)
            ended = await client.get(f"/status-sync/{body['id']}")
            assert (ended.json()["status"], "x-emulator-hint" in ended.headers) == ("COMPLETED", False)


async def test_a_queued_job_says_why_it_waits():
    async with emulated(workers_max=0) as client:
        answer = await client.post("/runsync", json={"input": 1})
        assert answer.json()["status"] == "IN_QUEUE"
        assert answer.headers["x-emulator-hint"] == "workersMax is 0: no worker is started"


async def test_a_stream_is_not_held_for_ever():
    async with emulated() as client:
        job_id = await client.run({"mock_delay": 20})
        answer = await client.get(f"/stream/{job_id}")
        assert answer.json() == {"status": "IN_PROGRESS", "stream": []}


async def test_a_wait_ends_too_when_time_is_stopped_meanwhile():
    async with emulated(options={"clock": None}) as client:
        waits = await client.begin("POST", "/runsync", json={"input": {"mock_delay": 20}})
        client.clock.freeze()
        assert (await waits).json()["status"] == "IN_PROGRESS"


async def test_an_openai_client_learns_it_as_an_error():
    async with emulated(workers_max=0) as client:
        answer = await client.post("/openai/v1/chat/completions", json={"messages": []})
        assert answer.status_code == 503
        assert answer.json()["error"]["message"].endswith("workersMax is 0: no worker is started")


async def test_work_that_takes_real_time_is_waited_for():
    looks = 0

    def executes():
        nonlocal looks
        looks += 1
        return looks < 20

    async with emulated() as client:
        client.clock.tells_execution(executes)
        answer = await client.post("/runsync", json={"input": {"mock_delay": 20}})
        assert (answer.json()["status"], looks >= 20) == ("IN_PROGRESS", True)


def test_the_clients_of_tests_learn_it_as_an_exception():
    with Emulator({"ep": EndpointConfig()}).serve() as emulator:
        emulator.clock.freeze()
        with pytest.raises(TimeoutError) as raised:
            emulator.endpoint("ep").runsync({"mock_delay": 20})
        assert "is IN_PROGRESS: the clock is frozen, and " in str(raised.value)
        emulator.clock.resume()
        with httpx.Client(trust_env=False, timeout=PATIENCE_S) as http:
            assert http.get(f"{emulator.url}/_emulator/ready").status_code == 200
