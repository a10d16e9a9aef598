"""The log says why calls are refused: SDKs show their users the status code alone."""

import logging

import pytest

from tests.api.client import emulated

pytestmark = pytest.mark.anyio
WRONG = {"authorization": "Bearer wrong"}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"path": "/v2/ep/run", "headers": WRONG}, "→ 401: invalid api key: it is none of those"),
        ({"path": "/v2/nope/run"}, "→ 404: endpoint not found: 'nope'"),
        (
            {"path": "/v2/ep/run", "json": {"input": 1, "policy": {"ttl": 5}}},
            "→ 400: bad request: policy.ttl",
        ),
        ({"path": "/v2/ep/openai/v1/chat/completions", "json": {"stream": 1}}, "→ 400: bad request: stream"),
    ],
)
async def test_a_refused_call_is_told_with_its_reason(caplog, request_, reason):
    caplog.set_level(logging.INFO, "emulator")
    async with emulated(options={"api_keys": ["local"]}) as client:
        await client.http.post(request_.pop("path"), **request_)
    [line] = [record for record in caplog.records if " → 4" in record.getMessage()]
    assert reason in line.getMessage()
    assert line.levelname == "WARNING"


async def test_a_refused_worker_is_told_once_a_minute_with_its_count(caplog, monkeypatch):
    now_s = 1_000.0
    monkeypatch.setattr("emulator.api.refused_workers.real_seconds", lambda: now_s)
    monkeypatch.setattr("emulator.api.refused_workers._HOLD_S", 0.0)
    async with emulated(worker_kind="external", options={"api_keys": ["right"]}) as client:
        for _ in range(3):
            assert (await client.get("/job-take/w1?x", headers=WRONG)).status_code == 401
        assert (await client.http.get("/v2/nope/job-take/w1?x")).status_code == 404
        now_s += 61
        await client.get("/job-take/w2?x", headers=WRONG)
    first, unknown, again = [line for line in caplog.messages if "a worker is refused" in line]
    assert "GET /v2/ep/job-take/w1 → 401: invalid api key" in first
    assert "RUNPOD_AI_API_KEY" in first
    assert "→ 404: endpoint not found: 'nope'" in unknown
    assert again.endswith("(it has come 2 times more since this was last said)")


async def test_the_refusal_of_a_worker_is_held_back(monkeypatch):
    monkeypatch.setattr("emulator.api.refused_workers._HOLD_S", 0.05)
    async with emulated(worker_kind="external", options={"api_keys": ["right"]}) as client:
        polls = [
            await client.begin("GET", path, headers=WRONG)
            for path in ("/job-take/w1?x", "/job-stop/w1?x", "/job-take-batch/w1?x")
        ]
        assert not any(poll.done() for poll in polls)
        assert [(await poll).status_code for poll in polls] == [401, 401, 401]
