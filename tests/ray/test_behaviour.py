"""The same jobs through workers on a cluster, and the same bodies out (`tests/workers/test_behaviour.py`)."""

from __future__ import annotations

import pytest

from tests.long.test_sdk_versions import asking_for
from tests.workers import test_behaviour
from tests.workers.kinds import workers_of

#: One emulator, and one cluster, does for all.
pytestmark = pytest.mark.xdist_group("behaviour")

globals().update(asking_for(test_behaviour, "workers"))


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with workers_of("ray", tmp_path_factory.mktemp("ray")) as workers:
        yield workers
