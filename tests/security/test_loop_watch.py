"""Whatever holds the event loop is named, and does not keep the process from ending (attack.md 2, 16)."""

import signal
import threading
from contextlib import suppress

import httpx
import pytest

from tests.cli.command import serving

HANDLER = """
import time

async def handler(job):
    blocks(job["input"])

def blocks(seconds):
    time.sleep(seconds)
"""


def submit(emulator, seconds):
    """The handler begins before this is answered."""
    with suppress(httpx.TransportError):
        emulator.post("/v2/local/run", {"input": seconds})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_handler_that_holds_the_loop_is_named_and_does_not_keep_the_process_from_ending(number, tmp_path):
    """SIGTERM had no effect."""
    (tmp_path / "h.py").write_text(HANDLER)
    with serving(tmp_path, "h.py:handler", "--worker-kind", "inline") as emulator:
        threading.Thread(target=submit, args=(emulator, 1_000_000), daemon=True).start()
        while "nothing has been served for over a second" not in emulator.log:
            pass
        assert emulator.logs(f"held by blocks, {tmp_path}/h.py line 8. An async handler")
        assert emulator.stop(number) == 1
        assert emulator.logs("ended at once: the event loop is held by blocks, ")


def test_a_stall_is_told_once_and_with_its_end(tmp_path):
    (tmp_path / "h.py").write_text(HANDLER)
    with serving(tmp_path, "h.py:handler", "--worker-kind", "inline") as emulator:
        emulator.post("/v2/local/runsync", {"input": 2.2})
        assert emulator.post("/v2/local/runsync", {"input": 0.1})["status"] == "COMPLETED"
        while "the event loop goes on, after" not in emulator.log:
            pass
        assert emulator.log.count("nothing has been served") == 1
        assert emulator.stop() == 0
