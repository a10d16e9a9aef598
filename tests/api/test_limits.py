"""Rate and concurrency limits (wire.md 6)."""

import asyncio

import pytest

from emulator import ConfigError, Emulator, EndpointConfig, VirtualClock
from tests.api.client import KEY, client_of, emulated, served
from tests.api.log_lines import log_lines

pytestmark = pytest.mark.anyio


def scaled(scale, **options):
    return {"rate_limit_scale": scale, **options}


async def ask(client, operation):
    """One request that is answered at once, whatever the answer."""
    if operation in ("run", "runsync"):
        return await client.post(f"/{operation}", json={"input": {"mock_return": 1}})
    if operation == "requests":
        return await client.get("/requests")
    if operation == "purge-queue":
        return await client.post("/purge-queue")
    return await client.post(f"/{operation}/unknown")


async def admitted(client, operation, at_most):
    """How many requests pass before one does not, and that one's answer."""
    for count in range(at_most + 1):
        response = await ask(client, operation)
        if response.status_code == 429:
            return count, response
        assert response.status_code in (200, 404)
    pytest.fail(f"more than {at_most} /{operation} requests passed")


@pytest.mark.parametrize(
    ("operation", "scale", "allowed"),
    [
        ("run", 1, 1_000),
        ("run", 0.1, 100),
        ("runsync", 0.1, 200),
        ("status", 0.1, 200),
        ("status-sync", 0.1, 200),
        ("stream", 0.1, 200),
        ("cancel", 1, 100),
        ("purge-queue", 1, 2),
        ("requests", 1, 10),
        ("requests", 2.5, 25),
        ("requests", 0.55, 5),
        ("requests", 0.001, 1),
    ],
)
async def test_each_operation_has_its_limit(operation, scale, allowed):
    async with emulated(options=scaled(scale)) as client:
        count, response = await admitted(client, operation, allowed)
        assert count == allowed
        name = "status" if operation == "status-sync" else operation
        detail = f"rate limit exceeded: {allowed} /{name} requests in 10 s; try again in 10 s"
        assert response.json() == {
            "status": 429, "title": "Too Many Requests", "detail": detail, "error": detail,
        }  # fmt: skip
        assert response.headers["retry-after"] == "10"
        assert response.headers["x-emulator"].startswith("runpod-emulator/")


async def test_the_window_moves_with_the_clock():
    async with emulated() as client:
        assert (await admitted(client, "purge-queue", 2))[0] == 2
        for step_ms, retry_after in [(2_500, "8"), (7_499, "1")]:
            await client.clock.advance(step_ms)
            response = await client.post("/purge-queue")
            assert (response.status_code, response.headers["retry-after"]) == (429, retry_after)
        await client.clock.advance(1)
        assert (await admitted(client, "purge-queue", 2))[0] == 2


async def test_what_was_refused_had_no_effect():
    async with emulated(workers_max=0, options=scaled(0.001)) as client:
        assert (await admitted(client, "run", 1))[0] == 1
        assert (await client.jobs())["inQueue"] == 1


async def test_status_and_status_sync_share_a_limit_and_other_operations_do_not():
    async with emulated(options=scaled(0.01)) as client:
        for _ in range(10):
            await ask(client, "status")
            await ask(client, "status-sync")
        assert (await ask(client, "status")).status_code == 429
        assert (await ask(client, "status-sync")).status_code == 429
        assert (await ask(client, "stream")).status_code == 404
        assert (await ask(client, "run")).status_code == 200


@pytest.mark.parametrize("operation", ["health", "retry"])
async def test_health_and_retry_have_no_limit(operation):
    async with emulated(options=scaled(0.000_1)) as client:
        for _ in range(20):
            response = await (client.get("/health") if operation == "health" else ask(client, operation))
            assert response.status_code in (200, 404)


async def test_each_endpoint_has_its_own_count():
    emulator = Emulator({"a": None, "b": None}, clock=VirtualClock())
    async with emulator, client_of(emulator, "/v2/a") as at_a, client_of(emulator, "/v2/b") as at_b:
        assert (await admitted(at_a, "purge-queue", 2))[0] == 2
        assert (await admitted(at_b, "purge-queue", 2))[0] == 2


async def test_the_root_and_the_endpoints_path_share_a_count():
    async with emulated() as client:
        await client.post("/purge-queue")
        await client.http.post("/purge-queue", headers=KEY)
        assert (await client.http.post("/purge-queue", headers=KEY)).status_code == 429


@pytest.mark.parametrize("options", [{"rate_limits": False}, scaled(float("inf")), scaled(1e308)])
async def test_limits_can_be_switched_off(options):
    async with emulated(options=options) as client:
        for _ in range(30):
            assert (await client.post("/purge-queue")).status_code == 200


async def test_a_reset_starts_the_windows_anew():
    async with emulated() as client:
        await admitted(client, "purge-queue", 2)
        await client.http.post("/_emulator/reset")
        assert (await client.post("/purge-queue")).status_code == 200


async def test_running_workers_raise_the_limit():
    async with emulated(workers_min=20, workers_max=20) as client:
        for _ in range(20):
            await client.run({"mock_delay": 60})
        await client.clock.settle()
        assert await client.workers() == {"running": 20}
        count, response = await admitted(client, "requests", 20)
        assert count == 20
        assert "20 /requests requests in 10 s" in response.json()["detail"]


@pytest.mark.parametrize("scale", [0, -1, float("nan")])
def test_a_scale_must_be_above_zero(scale):
    with pytest.raises(ConfigError, match=r"rate_limit_scale is .*: it must be above 0"):
        Emulator({"ep": EndpointConfig()}, rate_limit_scale=scale)


# How many at once


@pytest.mark.parametrize(
    ("operation", "scale", "at_once"),
    [("runsync", 0.01, 4), ("status-sync", 0.01, 4), ("stream", 0.02, 8), ("runsync", 0.001, 1)],
)
async def test_so_many_requests_may_wait_at_once(operation, scale, at_once):
    async with emulated(workers_max=0, options=scaled(scale)) as client:
        job = client.emulator.endpoint("ep").submit({"input": 1})
        path = "/runsync" if operation == "runsync" else f"/{operation}/{job.id}"

        def another():
            return client.begin("POST", path, json={"input": 1})

        waiting = [await another() for _ in range(at_once)]
        assert not any(task.done() for task in waiting)
        refused = await (await another())
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        name = "status" if operation == "status-sync" else operation
        assert refused.json()["detail"] == (
            f"rate limit exceeded: {at_once} /{name} requests at once; wait for one to be answered"
        )
        await client.clock.advance(90_000)
        assert {(await task).status_code for task in waiting} == {200}
        last = await another()
        await client.clock.advance(90_000)
        assert (await last).status_code == 200


async def test_a_slot_is_free_again_when_its_request_has_been_answered():
    async with emulated(workers_max=0, options=scaled(0.005)) as client:
        first, _second = [await client.begin("POST", "/runsync", json={"input": 1}) for _ in range(2)]
        assert (await client.post("/runsync", json={"input": 1})).status_code == 429
        [_, job], _ = client.emulator.endpoint("ep").list_jobs(offset=0, limit=2)
        await client.post(f"/cancel/{job.id}")
        assert (await first).json()["status"] == "CANCELLED"
        third = await client.begin("POST", "/runsync", json={"input": 1})
        assert not third.done()


async def test_a_refused_body_frees_its_slot():
    async with emulated(options=scaled(0.001)) as client:
        assert (await client.post("/runsync", content=b"no JSON")).status_code == 400
        assert (await client.runsync())["status"] == "COMPLETED"


@pytest.mark.parametrize("operation", ["runsync", "status-sync", "stream"])
async def test_a_slot_is_free_again_when_its_client_hangs_up(operation):
    async with served(options=scaled(0.001), workers_max=0) as client:
        job = client.emulator.endpoint("ep").submit({"input": 1})
        path = "/runsync" if operation == "runsync" else f"/{operation}/{job.id}"
        before = await timers(client)
        _, writer = await asyncio.open_connection("127.0.0.1", client.http.base_url.port)
        writer.write(b"POST /v2/ep%b HTTP/1.1\r\nhost: 127.0.0.1\r\n" % path.encode())
        writer.write(b'authorization: k\r\ncontent-length: 12\r\n\r\n{"input": 2}')
        await writer.drain()
        while await timers(client) == before:
            # It has not arrived yet.
            assert not writer.is_closing()
        assert (await client.post(path, content=b"no JSON")).status_code == 429
        with log_lines() as log:
            writer.close()
            await writer.wait_closed()
            await log.logged(f"POST /v2/ep{path} → the client hung up")
        await client.clock.advance(10_000)
        response = await client.post(f"{path}?wait=soon", content=b"no JSON")
        assert response.status_code == 400


async def test_the_job_of_a_client_that_hung_up_goes_on():
    async with served() as client:
        with log_lines() as log:
            _, writer = await asyncio.open_connection("127.0.0.1", client.http.base_url.port)
            body = b'{"input": {"mock_delay": 5}}'
            writer.write(b"POST /v2/ep/runsync HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: k\r\n")
            writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
            await log.logged("IN_QUEUE → IN_PROGRESS")
            writer.close()
            await writer.wait_closed()
            await log.logged("the client hung up")
            await client.clock.advance(5_000)
        assert (await client.jobs())["completed"] == 1


async def timers(client):
    return (await client.http.get("/_emulator/clock")).json()["pending"]
