"""What the log says of results that production would treat otherwise."""

import pytest

from tests.api.client import emulated

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("operation", "limit_mib"), [("run", 10), ("runsync", 20)], ids=["10 MB for run", "20 MB for runsync"]
)
async def test_a_result_over_productions_limit_passes_with_a_warning(caplog, operation, limit_mib):
    async with emulated(lambda job: "a" * job["input"]) as client:
        ask = client.run if operation == "run" else client.runsync
        # With its quotes it is just what is allowed.
        await ask(limit_mib * MIB - 2)
        assert warnings(caplog) == []
        asked = await ask(limit_mib * MIB + MIB)
        job_id = asked if isinstance(asked, str) else asked["id"]
        body = await client.status(job_id)
        assert (body["status"], len(body["output"])) == ("COMPLETED", limit_mib * MIB + MIB)
        [told] = warnings(caplog)
        assert f"job {job_id}: the output is {limit_mib + 1}.0 MB: production takes at most" in told
        assert f"{limit_mib} MB for /{operation}, refuses it with 400" in told
        assert "COMPLETED without output" in told


async def test_a_large_chunk_that_is_no_string_passes_with_a_warning(caplog):
    def chunks(job):
        yield "a" * 1_500_000
        yield {"data": "a" * 1_500_000}
        yield {"data": "b" * 1_500_000}

    async with emulated(chunks) as client:
        job_id = await client.run()
        await client.ended(job_id)
        stream = (await client.get(f"/stream/{job_id}")).json()["stream"]
        assert len(stream[-1]["output"]["data"]) == 1_500_000
        [told] = warnings(caplog)
        assert f"job {job_id}: a chunk of its stream is above 1 MB: production splits strings alone" in told


@pytest.mark.parametrize(
    ("brought", "told"),
    [
        ({"result": 1, "ok": True}, "has ok, result, and neither output nor error; the job is COMPLETED"),
        ({}, "is {}: the handler returned {}; the job is COMPLETED without output"),
    ],
)
async def test_a_result_without_output_and_error_is_told(caplog, brought, told):
    async with emulated(worker_kind="external") as client:
        job_id = await client.run()
        await client.get("/job-take/w1?job_in_progress=0")
        await client.post(f"/job-done/w1/{job_id}?isStream=false", json=brought)
        body = await client.status(job_id)
        assert (body["status"], "output" in body) == ("COMPLETED", False)
        [warning] = warnings(caplog)
        assert f"job {job_id}: what the worker brought {told}" in warning


@pytest.mark.parametrize("brought", [{"output": None}, {"output": {}}, {"stopPod": True}, {"error": "no"}])
async def test_a_result_that_is_one_is_no_news(caplog, brought):
    async with emulated(worker_kind="external") as client:
        job_id = await client.run()
        await client.get("/job-take/w1?job_in_progress=0")
        await client.post(f"/job-done/w1/{job_id}?isStream=false", json=brought)
        assert not any("what the worker brought" in warning for warning in warnings(caplog))
