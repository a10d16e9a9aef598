"""A cluster of several nodes, and one of them that dies."""

from __future__ import annotations

import pytest

from tests.engine.patience import until
from tests.ray.conftest import cluster_of, handlers

pytestmark = pytest.mark.xdist_group("nodes")


def test_a_hundred_jobs_survive_the_death_of_a_node(serving):
    with (
        cluster_of(1, 1, 1) as nodes,
        serving(on=nodes, workers_min=3, workers_max=3, scaler_value=1) as endpoint,
    ):
        until(lambda: endpoint.http.get("/v2/ep/health").json()["workers"]["ready"] == 3)
        assert len(handlers()) == 3
        jobs = {endpoint.run("nap", number=number): number for number in range(100)}
        until(lambda: endpoint.http.get("/v2/ep/health").json()["jobs"]["completed"] >= 20)
        # Without a word: its workers cannot let go of their jobs.
        nodes.remove_node(sorted(nodes.worker_nodes, key=str)[0], allow_graceful=False)
        requeued = 0
        for job_id, number in jobs.items():
            body = endpoint.ended(job_id)
            assert (body["status"], body["output"]) == ("COMPLETED", number)
            assert body.get("retries", 0) <= 1
            requeued += body.get("retries", 0)
        # The one that ran there, if any did.
        assert requeued <= 1
        counts = endpoint.http.get("/v2/ep/health").json()["jobs"]
        assert (counts["completed"], counts["inQueue"], counts["inProgress"]) == (100, 0, 0)
        assert len(handlers()) == 2
