"""A worker that has had nothing to do for two minutes takes the next job as it took the first."""

import time

import pytest

from tests.long.workers import KINDS, long_workers

IDLE_S = 121


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """What became of a job before and of one after the idle time, for each kind of worker."""
    folder = tmp_path_factory.mktemp("idle")
    log = folder / "log"
    with long_workers(folder, forms=["sync"]) as http:

        def run_all():
            body = {"input": {"seconds": 0, "log": str(log)}}
            ids = {kind: http.post(f"/v2/{kind}-sync/run", json=body).json()["id"] for kind in KINDS}
            return {
                kind: http.get(f"/v2/{kind}-sync/status-sync/{job_id}?wait=300000").json()
                for kind, job_id in ids.items()
            }

        before = run_all()
        time.sleep(IDLE_S)
        after = run_all()
    return before, after, log.read_text().split()


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_was_idle_for_two_minutes(jobs, kind):
    *bodies, executed = jobs
    for each in bodies:
        body = each[kind]
        assert (body["status"], body["output"]) == ("COMPLETED", 0), body
        assert "retries" not in body
        assert executed.count(body["id"]) == 1
    before, after = (each[kind] for each in bodies)
    assert after["workerId"] == before["workerId"]
