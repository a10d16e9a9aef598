"""What an endpoint tells about its jobs and workers as a whole (wire.md 4)."""

import pytest

from emulator import VirtualClock
from tests.api.client import emulated

pytestmark = pytest.mark.anyio

OVER_BOTH_PATHS = pytest.mark.parametrize("prefix", ["/v2/ep", ""], ids=["v2", "root"])
#: 2026-01-02T03:04:05.678Z
START_MS = 1_767_323_045_678


@OVER_BOTH_PATHS
async def test_health_of_an_endpoint_at_rest(prefix):
    async with emulated(prefix=prefix) as client:
        response = await client.get("/health")
        assert response.status_code == 200
        assert response.json() == {
            "jobs": {"completed": 0, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 0},
            "workers": {
                "idle": 0, "initializing": 0, "ready": 0, "running": 0, "throttled": 0, "unhealthy": 0,
            },
        }  # fmt: skip


async def test_health_counts_jobs_by_what_became_of_them():
    async with emulated(workers_max=2) as client:
        for _ in range(3):
            await client.runsync()
        for _ in range(2):
            await client.runsync({"mock_error": "no"})
        for _ in range(2):
            await client.run({"mock_delay": 60})
            await client.clock.advance(4_000)
        queued = [await client.run() for _ in range(4)]
        await client.post(f"/cancel/{queued[0]}")
        assert await client.jobs() == {
            "completed": 3,
            "failed": 2,
            "inProgress": 2,
            "inQueue": 3,
            "retried": 0,
        }


async def test_a_retried_job_no_longer_counts_as_failed():
    async with emulated() as client:
        body = await client.runsync({"mock_error": "no"})
        await client.post(f"/retry/{body['id']}")
        await client.clock.settle()
        jobs = await client.jobs()
        assert (jobs["failed"], jobs["retried"]) == (1, 1)


async def test_a_job_whose_ttl_ran_out_counts_as_failed():
    async with emulated(workers_max=0) as client:
        await client.run(policy={"ttl": 10_000})
        await client.clock.advance(10_000)
        assert await client.jobs() == {
            "completed": 0,
            "failed": 1,
            "inProgress": 0,
            "inQueue": 0,
            "retried": 0,
        }


async def test_counts_outlive_the_results():
    async with emulated() as client:
        await client.runsync()
        await client.clock.advance(60_000)
        assert (await client.get("/requests")).json()["total"] == 0
        assert (await client.jobs())["completed"] == 1


@OVER_BOTH_PATHS
async def test_requests_of_an_endpoint_at_rest(prefix):
    async with emulated(prefix=prefix) as client:
        response = await client.get("/requests")
        assert response.status_code == 200
        assert response.json() == {"requests": [], "total": 0, "offset": 0, "limit": 50, "hasMore": False}


async def test_requests_are_status_bodies_with_time_and_type():
    async with emulated(options={"clock": VirtualClock(start_ms=START_MS)}) as client:
        queued = await client.run({"mock_delay": 60})
        await client.clock.advance(1_000)
        done = await client.begin("POST", "/runsync", json={"input": {"mock_return": "ok"}})
        await client.clock.advance(4_000)
        done = (await done).json()
        listed = (await client.get("/requests")).json()["requests"]
        assert listed == [
            {**done, "createdAt": "2026-01-02T03:04:06.678Z", "type": "SYNC"},
            {**await client.status(queued), "createdAt": "2026-01-02T03:04:05.678Z", "type": "ASYNC"},
        ]
        assert list(listed[0]) == [*done, "createdAt", "type"]


async def test_requests_come_in_pages_newest_first():
    async with emulated(workers_max=0) as client:
        ids = [await client.run() for _ in range(7)][::-1]

        async def page(query):
            body = (await client.get(f"/requests?{query}")).json()
            return [job["id"] for job in body["requests"]], body["total"], body["hasMore"]

        assert await page("limit=3") == (ids[:3], 7, True)
        assert await page("limit=3&offset=3") == (ids[3:6], 7, True)
        assert await page("limit=3&offset=6") == (ids[6:], 7, False)
        assert await page("limit=7") == (ids, 7, False)
        assert await page("offset=99") == ([], 7, False)


async def test_a_page_has_50_requests_unless_told_otherwise():
    async with emulated(workers_max=0) as client:
        for _ in range(51):
            await client.run()
        body = (await client.get("/requests")).json()
        assert (len(body["requests"]), body["total"], body["limit"], body["hasMore"]) == (50, 51, 50, True)


async def test_requests_can_be_asked_for_by_status():
    async with emulated(workers_max=1) as client:
        failed = (await client.runsync({"mock_error": "no"}))["id"]
        running = await client.run({"mock_delay": 60})
        queued = [await client.run() for _ in range(3)]
        cancelled = await client.run()
        await client.post(f"/cancel/{cancelled}")
        await client.clock.settle()

        async def ids(status, more=""):
            body = (await client.get(f"/requests?status={status}{more}")).json()
            assert {job["status"] for job in body["requests"]} <= {status}
            return [job["id"] for job in body["requests"]], body["total"]

        assert await ids("FAILED") == ([failed], 1)
        assert await ids("IN_PROGRESS") == ([running], 1)
        assert await ids("CANCELLED") == ([cancelled], 1)
        assert await ids("COMPLETED") == ([], 0)
        assert await ids("IN_QUEUE", "&limit=2&offset=1") == ([queued[1], queued[0]], 3)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=0", "?limit: '0' must be an integer from 1 to 1000"),
        ("limit=1001", "?limit: '1001' must be an integer from 1 to 1000"),
        ("limit=ten", "?limit: 'ten' must be an integer from 1 to 1000"),
        ("limit=", "?limit: '' must be an integer from 1 to 1000"),
        ("offset=-1", "?offset: '-1' must be an integer from 0 to 1000000000"),
        ("offset=ten", "?offset: 'ten' must be an integer from 0 to 1000000000"),
        ("status=DONE", "?status: 'DONE' must be one of IN_QUEUE, IN_PROGRESS, COMPLETED, FAILED"),
        ("status=completed", "?status: 'completed' must be one of"),
    ],
)
async def test_a_query_out_of_bounds_is_refused(query, detail):
    async with emulated() as client:
        response = await client.get(f"/requests?{query}")
        assert response.status_code == 400
        assert response.json()["detail"].startswith(f"bad request: {detail}")


@pytest.mark.parametrize(
    "query", ["limit=1", "limit=1000", "offset=0&offset=1", "other=1", "status=TIMED_OUT"]
)
async def test_a_query_within_bounds_is_answered(query):
    async with emulated() as client:
        assert (await client.get(f"/requests?{query}")).status_code == 200


@OVER_BOTH_PATHS
async def test_every_operation_answers_at_either_path(prefix):
    async with emulated(prefix=prefix) as client:
        failed = await client.runsync({"mock_error": "no"})
        path = f"/{{}}/{failed['id']}"
        assert (await client.get(path.format("status"))).json() == failed
        assert (await client.get(path.format("status-sync"))).json() == failed
        assert (await client.get(path.format("stream"))).json() == {"status": "FAILED", "stream": []}
        assert (await client.post(path.format("cancel"))).json()["status"] == "FAILED"
        assert (await client.post(path.format("retry"))).json()["status"] == "IN_QUEUE"
        assert (await client.post("/run", json={"input": 1})).json()["status"] == "IN_QUEUE"


async def test_the_root_is_another_name_of_the_same_endpoint():
    async with emulated() as client:
        job_id = (await client.http.post("/run", json={"input": 1})).json()["id"]
        await client.clock.settle()
        assert await client.status(job_id) == (await client.http.get(f"/status/{job_id}")).json()
