"""An inline handler that reports faster than the loop can take it holds nobody up (attack.md 2)."""

import pytest

from tests.cli.command import serving

HANDLER = """
import runpod

def progress(job):
    while True:
        runpod.serverless.progress_update(job, "x")

def stream(job):
    while True:
        yield "x"
"""


@pytest.mark.parametrize("name", ["progress", "stream"])
def test_a_handler_that_never_stops_reporting(name, tmp_path):
    """No request was ever answered again, the memory grew without end, and SIGTERM had no effect."""
    (tmp_path / "h.py").write_text(HANDLER)
    with serving(tmp_path, f"h.py:{name}", "--worker-kind", "inline", "--clock", "scaled:5") as emulator:
        for ends in ("cancelled", "timed out"):
            policy = {"executionTimeout": 5_001} if ends == "timed out" else {}
            job = emulator.post("/v2/local/run", {"input": 1, "policy": policy})
            assert "id" in job, job
            job = job["id"]
            while emulator.get("/v2/local/health")["jobs"]["inProgress"] == 0:
                pass
            if ends == "cancelled":
                emulator.post(f"/v2/local/cancel/{job}")
            state = emulator.get(f"/v2/local/status-sync/{job}?wait=300000")["status"]
            assert state == ("CANCELLED" if ends == "cancelled" else "FAILED"), state
            for _ in range(20):
                assert emulator.get("/v2/local/health")["jobs"]["inProgress"] == 0
        assert emulator.stop() == 0
        assert emulator.log.count("was dropped: the job is no longer this worker's") <= 4
