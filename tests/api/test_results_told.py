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
async def test_a_result_over_productions_limit_ends_as_there_without_output(caplog, operation, limit_mib):
    async with emulated(lambda job: "a" * job["input"]) as client:
        ask = client.run if operation == "run" else client.runsync
        # With its quotes it is just what is allowed.
        await ask(limit_mib * MIB - 2)
        assert warnings(caplog) == []
        asked = await ask(limit_mib * MIB + MIB)
        job_id = asked if isinstance(asked, str) else asked["id"]
        await client.clock.settle()
        body = await client.status(job_id)
        assert (body["status"], "output" in body, "error" in body) == ("COMPLETED", False, False)
        [told] = warnings(caplog)
        assert f"job {job_id}: the output is {limit_mib + 1}.0 MB: production takes at most" in told
        assert (
            f"{limit_mib} MB for /{operation}, the worker is answered 400, and the job is COMPLETED" in told
        )
        assert "without output; store what is so large (docs/s3.md), and return its URL" in told


async def test_the_limit_of_results_can_be_set(caplog):
    async with emulated(lambda job: "a" * job["input"], result_limit_mib=1) as client:
        assert len((await client.runsync(MIB - 2))["output"]) == MIB - 2
        assert warnings(caplog) == []
        assert "output" not in await client.runsync(MIB - 1)
        assert (
            "the output is 1.0 MB: --result-limit is 1 MB, the worker is answered 400" in warnings(caplog)[0]
        )
    async with emulated(lambda job: "a" * job["input"], result_limit_mib=30) as client:
        assert len((await client.runsync(25 * MIB))["output"]) == 25 * MIB


@pytest.mark.parametrize("brought", [{"output": "a" * MIB}, {"error": "a" * (MIB + 1)}])
async def test_a_worker_is_answered_400_as_in_production(brought):
    async with emulated(worker_kind="external", result_limit_mib=1) as client:
        job_id = await client.run()
        await client.get("/job-take/w1?job_in_progress=0")
        chunk = await client.post(f"/job-stream/w1/{job_id}?isStream=true", json={"output": ["a" * MIB]})
        small = await client.post(f"/job-stream/w1/{job_id}?isStream=true", json={"output": 1})
        assert (chunk.status_code, small.status_code) == (400, 200)
        done = await client.post(f"/job-done/w1/{job_id}?isStream=false", json=brought)
        assert done.status_code == 400
        assert done.json()["detail"] == "bad request: body: exceeded max body size of 1MiB"
        body = await client.status(job_id)
        assert (body["status"], "output" in body, "error" in body) == ("COMPLETED", False, False)
        assert (await client.get(f"/stream/{job_id}")).json()["stream"] == [{"output": 1}]
        # It is over: what comes again is late.
        assert (await client.post(f"/job-done/w1/{job_id}?isStream=false", json=brought)).status_code == 200


async def test_a_result_that_is_not_even_read_ends_so_too():
    async with emulated(worker_kind="external") as client:
        job_id = await client.run()
        await client.get("/job-take/w1?job_in_progress=0")
        done = await client.post(f"/job-done/w1/{job_id}?isStream=false", content=b"a" * (101 * MIB))
        assert done.status_code == 400
        body = await client.status(job_id)
        assert (body["status"], "output" in body, "error" in body) == ("COMPLETED", False, False)


async def test_an_openai_client_learns_that_nothing_came():
    async with emulated(lambda _: "a" * (25 * MIB)) as client:
        answer = await client.post("/openai/v1/chat/completions", json={"messages": []})
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "no_output")


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
