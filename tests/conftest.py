"""What all tests share: async tests run on asyncio, and none is judged by how fast the machine is."""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

from tests import stand_ins

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

sys.path.insert(0, stand_ins.FOLDER)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (stand_ins.FOLDER, os.environ.get("PYTHONPATH"))))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
