"""What the guard of worker processes is told, so that it ends no stranger and holds no name for ever."""

import pytest

from emulator.workers.guard import Guard
from emulator.workers.process import WorkerProcess, start_process

pytestmark = pytest.mark.anyio


class Watched(Guard):
    """Keeps who is watched to itself."""

    def __init__(self):
        super().__init__()
        self.workers = set()

    def expect(self, worker_id):
        self.workers.add(worker_id)

    def forget(self, worker_id, group):
        self.workers.remove(worker_id)


@pytest.mark.parametrize("program", ["no-such-program", "with\0nul"])
async def test_a_process_that_cannot_be_started_is_watched_no_more(tmp_path, program):
    guard = Watched()
    with pytest.raises((OSError, ValueError)):
        await start_process(WorkerProcess("w1", lambda *_: None), guard, [program], tmp_path, {})
    assert not guard.workers
