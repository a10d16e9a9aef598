"""The emulator as a Python object: several of them, served, hosted, and always ended."""

import asyncio
import threading
from contextlib import suppress

import httpx
import pytest
import uvicorn

from emulator import (
    Clock,
    ConfigError,
    Emulator,
    EmulatorError,
    EndpointConfig,
    EndpointNotFound,
    HandlerError,
    InvalidRequest,
    JobStatus,
    MalformedRequest,
    VirtualClock,
)
from tests.api.client import KEY, client_of, emulated, served
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio


async def echo(job):
    return job["input"]


async def test_emulators_in_one_process_know_nothing_of_each_other():
    ours = Emulator({"ep": lambda _: "ours"}, clock=VirtualClock(start_ms=1_000), rate_limit_scale=0.1)
    theirs = Emulator({"ep": lambda _: "theirs"}, clock=VirtualClock(start_ms=2_000), api_keys=["local"])
    async with ours, theirs, client_of(ours) as to_ours, client_of(theirs) as to_theirs:
        mine = await to_ours.runsync()
        other = await to_theirs.runsync()
        assert (mine["output"], other["output"]) == ("ours", "theirs")
        assert await to_theirs.is_gone(mine["id"])
        await ours.clock.advance(60_000)
        assert await to_ours.is_gone(mine["id"])
        assert (await to_theirs.status(other["id"])) == other
        assert theirs.clock.now_ms() == 2_000
        await to_ours.http.post("/_emulator/reset")
        assert (await to_theirs.jobs())["completed"] == 1
        assert (await to_ours.post("/purge-queue")).status_code == 200
        assert (await to_ours.post("/purge-queue")).status_code == 429
        assert (await to_theirs.post("/purge-queue")).status_code == 200


async def test_endpoints_of_one_emulator_share_nothing_but_the_clock():
    endpoints = {"a": lambda _: "from a", "b": EndpointConfig(handler=lambda _: "from b", workers_max=1)}
    emulator = Emulator(endpoints, clock=VirtualClock())
    async with emulator, client_of(emulator, "/v2/a") as to_a, client_of(emulator, "/v2/b") as to_b:
        assert emulator.endpoint_ids == ["a", "b"]
        in_a, in_b = await to_a.runsync(), await to_b.runsync()
        assert (in_a["output"], in_b["output"]) == ("from a", "from b")
        assert await to_b.is_gone(in_a["id"])
        assert (await to_a.jobs())["completed"] == (await to_b.jobs())["completed"] == 1
        root = await to_b.http.post("/runsync", json={"input": 1})
        assert root.json()["output"] == "from a"


async def test_serving_on_a_free_port_gives_the_url():
    emulator = Emulator({"ep": echo}, clock=VirtualClock())
    async with emulator:
        with pytest.raises(EmulatorError, match="the emulator is not served"):
            _ = emulator.url
        async with (
            emulator.serve() as url,
            httpx.AsyncClient(trust_env=False, headers=KEY, timeout=PATIENCE_S) as http,
        ):
            assert url.startswith("http://127.0.0.1:")
            assert emulator.url == url
            body = (await http.post(f"{url}/v2/ep/runsync", json={"input": 7})).json()
            assert (body["status"], body["output"]) == ("COMPLETED", 7)
        with pytest.raises(EmulatorError, match="the emulator is not served"):
            _ = emulator.url
        async with (
            emulator.serve() as again,
            httpx.AsyncClient(trust_env=False, headers=KEY, timeout=PATIENCE_S) as http,
        ):
            assert (await http.get(f"{again}/v2/ep/health")).json()["jobs"]["completed"] == 1


async def test_a_port_that_is_taken_is_refused_with_advice():
    async with served() as client:
        port = client.http.base_url.port
        with pytest.raises(ConfigError, match=f"port {port} is in use: stop what uses it, or choose another"):
            async with client.emulator.serve(port=port):
                pytest.fail("served twice at one port")
        assert (await client.get("/health")).status_code == 200


async def test_an_address_of_another_machine_is_refused_with_advice():
    async with emulated() as client:
        with pytest.raises(ConfigError, match=r"203\.0\.113\.7.*check --host"):
            async with client.emulator.serve("203.0.113.7"):
                pytest.fail("bound a foreign address")


async def test_an_emulator_is_started_once():
    emulator = Emulator({"ep": echo}, clock=VirtualClock())
    async with emulator:
        with pytest.raises(EmulatorError, match="an Emulator is started once: make another one"):
            await emulator.start()
    with pytest.raises(EmulatorError, match="started once"):
        await emulator.start()


async def test_after_a_handler_that_could_not_be_loaded_nothing_runs():
    emulator = Emulator({"good": EndpointConfig(handler=echo, workers_min=1), "bad": "no_such_file.py"})
    with pytest.raises(HandlerError, match=r"no_such_file\.py: no such file"):
        await emulator.start()
    assert emulator.endpoint("good").health()["workers"]["initializing"] == 0
    await emulator.stop()


async def test_an_endpoint_without_http():
    clock = VirtualClock()
    async with Emulator({"ep": echo}, clock=clock) as emulator:
        endpoint = emulator.endpoint("ep")
        job = endpoint.submit({"input": {"n": 1}, "policy": {"ttl": 60_000}})
        await endpoint.wait(job, 1_000)
        assert (job.status, job.output) == (JobStatus.COMPLETED, {"n": 1})
        assert endpoint.get(job.id) is job
        assert endpoint.health()["jobs"]["completed"] == 1
        with pytest.raises(MalformedRequest, match="missing or null"):
            endpoint.submit({})
        with pytest.raises(InvalidRequest) as refused:
            endpoint.submit({"input": 1, "policy": {"ttl": 1}})
        assert (refused.value.field, refused.value.value) == ("policy.ttl", 1)
        with pytest.raises(EndpointNotFound, match="'other': there is ep"):
            emulator.endpoint("other")


async def test_without_endpoints_there_is_a_mock_worker_called_local():
    async with Emulator(clock=VirtualClock()) as emulator, client_of(emulator, "/v2/local") as client:
        assert emulator.endpoint_ids == ["local"]
        assert (await client.runsync())["output"] == "Hello World!"


@pytest.mark.parametrize("endpoint_id", ["", "a/b", "a b", "ü/", "a?b", "a%2f"])
def test_an_endpoint_id_must_fit_into_a_path(endpoint_id):
    with pytest.raises(ConfigError, match="cannot be an endpoint id: use letters, digits and"):
        Emulator({endpoint_id: echo})


async def test_a_server_that_hosts_the_app_starts_and_stops_the_emulator():
    emulator = Emulator({"ep": echo}, clock=VirtualClock())
    incoming, outgoing = asyncio.Queue(), asyncio.Queue()
    lifespan = asyncio.get_running_loop().create_task(
        emulator.app({"type": "lifespan", "asgi": {"version": "3.0"}}, incoming.get, outgoing.put)
    )
    async with client_of(emulator) as client:
        assert (await client.http.get("/_emulator/ready")).status_code == 503
        await incoming.put({"type": "lifespan.startup"})
        assert (await outgoing.get())["type"] == "lifespan.startup.complete"
        assert (await client.runsync(5))["output"] == 5
        await incoming.put({"type": "lifespan.shutdown"})
        assert (await outgoing.get())["type"] == "lifespan.shutdown.complete"
        assert (await client.http.get("/_emulator/ready")).status_code == 503
    await lifespan


async def test_a_server_that_hosts_a_running_emulator_leaves_it_running():
    async with emulated(echo) as client:
        incoming, outgoing = asyncio.Queue(), asyncio.Queue()
        for kind in ("startup", "shutdown"):
            await incoming.put({"type": f"lifespan.{kind}"})
        await client.emulator.app(
            {"type": "lifespan", "asgi": {"version": "3.0"}}, incoming.get, outgoing.put
        )
        assert (await client.runsync(5))["output"] == 5


async def test_an_app_whose_handler_cannot_be_loaded_does_not_start():
    emulator = Emulator({"ep": "no_such_file.py"}, clock=VirtualClock())
    server = uvicorn.Server(uvicorn.Config(emulator.app, port=0, lifespan="on", log_config=None, ws="none"))
    # Newer versions of uvicorn end the process here; older ones leave that to their command line.
    with suppress(SystemExit):
        await server.serve()
    assert server.lifespan.should_exit
    assert not server.started


async def test_requests_that_wait_are_answered_when_serving_ends():
    async with (
        emulated(workers_max=0) as client,
        httpx.AsyncClient(trust_env=False, headers=KEY, timeout=PATIENCE_S) as http,
    ):
        job_id = await client.run()
        async with client.emulator.serve() as url:
            asked = asyncio.get_running_loop().create_task(http.get(f"{url}/v2/ep/status-sync/{job_id}"))
            while len(client.clock.pending()) == 1:
                # It has not arrived yet.
                await http.get(f"{url}/_emulator/health")
        assert (await asked).json() == {"id": job_id, "status": "IN_QUEUE"}


async def test_requests_that_wait_are_answered_when_the_emulator_ends():
    emulator = Emulator({"ep": EndpointConfig(workers_max=0)}, clock=VirtualClock())
    await emulator.start()
    async with client_of(emulator) as client:
        asked = await client.begin("POST", "/runsync", json={"input": 1})
        await emulator.stop()
        assert (await asked).json()["status"] == "IN_QUEUE"


# Handlers that do not want to end


async def test_stopping_does_not_wait_for_a_handler_that_blocks():
    started, release = threading.Event(), threading.Event()

    def blocks(_job):
        started.set()
        release.wait()

    async with emulated(blocks) as client:
        await client.run()
        await asyncio.to_thread(started.wait)
    release.set()


async def test_stopping_does_not_wait_for_ever_for_a_handler_that_ignores_its_cancellation(
    caplog, monkeypatch
):
    monkeypatch.setattr("emulator.workers.staff._HANDLER_PATIENCE_S", 0.01)
    release = asyncio.Event()

    async def stubborn(_job):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    try:
        async with emulated(stubborn) as client:
            await client.run()
            await client.clock.settle()
        assert "ep: 1 handlers did not stop and were left behind" in caplog.text
    finally:
        release.set()


async def test_a_handler_may_clean_up_when_the_emulator_stops():
    cleaned_up = asyncio.Event()

    async def careful(_job):
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()

    async with emulated(careful) as client:
        await client.run()
        await client.clock.settle()
    assert cleaned_up.is_set()


async def test_stopping_in_the_middle_of_everything():
    async with Emulator({"ep": EndpointConfig(workers_min=1)}, clock=Clock()) as emulator:
        endpoint = emulator.endpoint("ep")
        for seconds in (0, 0.001, 3_600):
            for _ in range(5):
                endpoint.submit({"input": {"mock_delay": seconds}, "webhook": "http://127.0.0.1:9/"})
        await emulator.clock.settle()
    assert emulator.clock.pending() == []
