"""What the guard of worker processes is told, so that it ends no stranger and holds no name for ever."""

import subprocess
import sys

import pytest

from emulator.workers.guard import Guard
from emulator.workers.process import WorkerProcess, start_process
from tests.processes import wait_for_the_end_of


class Watched(Guard):
    """Keeps who is watched to itself."""

    def __init__(self):
        super().__init__()
        self.workers = set()

    def expect(self, worker_id):
        self.workers.add(worker_id)

    def forget(self, worker_id, group):
        self.workers.remove(worker_id)


@pytest.mark.anyio
@pytest.mark.parametrize("program", ["no-such-program", "with\0nul"])
async def test_a_process_that_cannot_be_started_is_watched_no_more(tmp_path, program):
    guard = Watched()
    with pytest.raises((OSError, ValueError)):
        await start_process(WorkerProcess("w1", lambda *_: None), guard, [program], tmp_path, {})
    assert not guard.workers


DIES_AT_ONCE = """
import os, subprocess
from emulator.workers.guard import Guard

Guard._tell = lambda *_: os._exit(0)
worker = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
print(worker.pid, flush=True)
Guard().watch("w1", worker.pid)
"""


def test_a_worker_is_ended_when_its_emulator_dies_as_the_guard_starts():
    told = subprocess.run([sys.executable, "-c", DIES_AT_ONCE], capture_output=True, text=True, check=True)
    wait_for_the_end_of([int(told.stdout)])
