"""What `serve` prints: workers are told a key that is let in."""

import pytest

from emulator import Emulator, EndpointConfig
from emulator.cli.banner import banner

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("keys", "told"), [([], "anything"), (["rpa_hidden"], "one-of-your-keys")])
async def test_the_lines_for_external_workers_have_the_key_that_clients_are_told(keys, told):
    emulator = Emulator({"ep": EndpointConfig(worker_kind="external")}, api_keys=keys)
    async with emulator, emulator.serve():
        text = banner(emulator, reload=False)
    assert f"RUNPOD_AI_API_KEY={told} " in text
    assert f"export RUNPOD_API_KEY={told}\n" in text
    assert "rpa_hidden" not in text
