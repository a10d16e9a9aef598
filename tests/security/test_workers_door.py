"""The port for workers that are elsewhere lets them in, and nobody else (docs/security.md, S16)."""

import httpx
import pytest

from emulator import Emulator, EndpointConfig
from emulator.serving.workers_door import WorkersDoor, open_as
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio


@pytest.fixture
async def emulator():
    async with Emulator({"ep": EndpointConfig(worker_kind="external")}, api_keys=["key"]) as emulator:
        yield emulator


@pytest.fixture
async def door(emulator):
    door = WorkersDoor(emulator.app, lambda worker, secret: emulator.worker_secrets.proves(worker, secret))
    yield door
    await door.close(1.0)


async def test_s16_a_worker_comes_in_by_its_secret_and_by_nothing_else(emulator, door):
    url = await open_as(door, "127.0.0.1")
    secret = emulator.worker_secrets.of("w1")
    with_key = {"authorization": "Bearer key"}
    async with httpx.AsyncClient(
        base_url=url, headers=with_key, trust_env=False, timeout=PATIENCE_S
    ) as client:
        assert (await client.get(f"/v2/ep/ping/w1?secret={secret}")).status_code == 200
        for path in (
            "/v2/ep/ping/w1",
            "/v2/ep/ping/w1?secret=",
            "/v2/ep/ping/w1?secret=guessed",
            f"/v2/ep/ping/w2?secret={secret}",
            f"/v2/ep/health?secret={secret}",
            f"/v2/ep/run?secret={secret}",
            f"/_emulator/health?secret={secret}",
            f"/_emulator/ping/w1?secret={secret}",
            f"/v2/ep/../../_emulator/workers/ping/w1?secret={secret}",
            "/",
        ):
            assert (await client.get(path)).status_code == 403, path


async def test_it_opens_once_for_an_address(door):
    assert await open_as(door, "127.0.0.1") == await open_as(door, "127.0.0.1")


async def test_a_name_of_elsewhere_is_listened_for_everywhere(emulator, door):
    # 192.0.2.1 is nobody's address (RFC 5737): a router's, say, that hands the port on.
    called = await open_as(door, "192.0.2.1")
    assert called.startswith("http://192.0.2.1:")
    url = f"http://127.0.0.1:{called.rpartition(':')[2]}"
    secret = emulator.worker_secrets.of("w1")
    async with httpx.AsyncClient(
        base_url=url, headers={"host": "192.0.2.1"}, trust_env=False, timeout=PATIENCE_S
    ) as client:
        assert (await client.get(f"/v2/ep/ping/w1?secret={secret}")).status_code == 200


@pytest.mark.parametrize("address", ["", "a b", "http://x", "x:99999", "x:port"])
async def test_what_is_no_address_is_refused(door, address):
    with pytest.raises(ValueError, match="it must be HOST or HOST:PORT"):
        await open_as(door, address)
