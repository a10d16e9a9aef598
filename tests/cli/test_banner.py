"""What `serve` prints: workers are told a key that is let in."""

import re

import httpx
import pytest

from emulator import Emulator, EndpointConfig
from emulator.cli.banner import banner
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("keys", "told"), [([], "anything"), (["rpa_hidden"], "one-of-your-keys")])
async def test_the_lines_for_external_workers_have_a_key_that_passes_for_workers_alone(keys, told):
    emulator = Emulator({"ep": EndpointConfig(worker_kind="external")}, api_keys=keys)
    async with (
        emulator,
        emulator.serve() as url,
        httpx.AsyncClient(base_url=f"{url}/v2/ep", timeout=PATIENCE_S) as http,
    ):
        text = banner(emulator, reload=False)
        (key,) = re.findall(r"RUNPOD_AI_API_KEY=(\S+) ", text)
        http.headers["authorization"] = key
        assert (await http.get("/ping/w1?gpu=none")).status_code == 200
        assert (await http.get("/health")).status_code == (401 if keys else 200)
    assert f"export RUNPOD_API_KEY={told}\n" in text
    assert "rpa_hidden" not in text
