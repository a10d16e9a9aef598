"""Workers with the SDKs that people have: how they behave (`tests/workers/test_behaviour.py`), and that those
that keep their state in a file do not take one another's (`test_own_state.py`).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import serving
from tests.long import sdks, test_own_state
from tests.workers import test_behaviour
from tests.workers.kinds import workers_of

if TYPE_CHECKING:
    from types import ModuleType


def asking_for(module: ModuleType, fixture: str) -> dict[str, object]:
    """Its tests that ask for a fixture: here they get the one below."""
    tests = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    return {name: test for name, test in tests.items() if fixture in inspect.signature(test).parameters}


globals().update(asking_for(test_behaviour, "workers"))
globals().update(asking_for(test_own_state, "python"))
folder = test_own_state.folder


@pytest.fixture(scope="module", params=sdks.VERSIONS)
def workers(request, tmp_path_factory):
    with workers_of(f"script@{request.param}", tmp_path_factory.mktemp("sdk")) as workers:
        yield workers


@pytest.fixture(scope="module", params=sdks.WITH_STATE_FILE)
def python(request):
    return sdks.interpreter(request.param)


@pytest.fixture
def job_count():
    return 20


WITH_HOOKS = """\
import asyncio
import runpod

READY = []

async def load_model():
    await asyncio.sleep(1)
    READY.append("model")

def warm_up():
    READY.append("warm")

runpod.serverless.register_prestart_hook(load_model)
runpod.serverless.register_prestart_hook(warm_up)
runpod.serverless.start({"handler": lambda job: READY})
"""


def test_hooks_before_the_start_have_run_when_the_handler_gets_its_first_job(tmp_path):
    (tmp_path / "handler.py").write_text(WITH_HOOKS)
    with serving(tmp_path, "handler.py", "--python", sdks.interpreter("2.0.0rc2")) as emulator:
        for _ in range(2):
            body = emulator.post("/v2/local/runsync", {"input": 1})
            assert (body["status"], body["output"]) == ("COMPLETED", ["model", "warm"])
            assert "retries" not in body
