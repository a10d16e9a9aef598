"""A handler that takes longer than any connection is used to: its job ends once, with all it has said."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.limits import PATIENCE_S
from tests.long.long_handlers import pieces
from tests.long.workers import FORMS, KINDS, long_workers

#: The longest come first: three workers of an endpoint are done with all others when one is with that.
SECONDS = [65, 35, 16, 14, 11, 7.5, 5.5, 1]
WORKERS = 3
#: How often a client looks how far a job is.
LOOK_S = 0.2
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}


@dataclass
class Seen:
    """What a client was told of a job until it had ended."""

    body: dict
    #: The outputs of its chunks, or of its progress updates without repetitions.
    said: list
    #: The ids that the handler has written down.
    executions: list[str]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Looks up what was seen of one of the jobs, which are all submitted at once."""
    folder = tmp_path_factory.mktemp("long")
    which = [(kind, form, seconds) for kind in KINDS for form in FORMS for seconds in SECONDS]
    with long_workers(folder, workers=WORKERS) as http, ThreadPoolExecutor(len(which)) as clients:
        jobs = {
            (kind, form, seconds): clients.submit(
                see_through, http, f"{kind}-{form}", seconds, folder / f"{kind}-{form}-{seconds}.log"
            )
            for kind, form, seconds in which
        }
        yield lambda *one: jobs[one].result(PATIENCE_S)


def see_through(http, endpoint_id, seconds, log):
    answer = http.post(f"/v2/{endpoint_id}/run", json={"input": {"seconds": seconds, "log": str(log)}})
    job_id = answer.json()["id"]
    watch = {"generator": read_stream, "progress": read_progress}.get(endpoint_id.split("-")[1], wait)
    said = watch(http, f"/v2/{endpoint_id}", job_id, log)
    body = http.get(f"/v2/{endpoint_id}/status/{job_id}").json()
    return Seen(body, said, log.read_text().split() if log.exists() else [])


def read_stream(http, endpoint, job_id, _log):
    chunks = []
    while True:
        body = http.get(f"{endpoint}/stream/{job_id}").json()
        chunks += [chunk["output"] for chunk in body["stream"]]
        if body["status"] in ENDED:
            return chunks


def read_progress(http, endpoint, job_id, log):
    reports = []
    while (body := http.get(f"{endpoint}/status/{job_id}").json())["status"] not in ENDED:
        if body.get("output") not in (None, *reports[-1:]):
            reports.append(body["output"])
            # The handler waits for that.
            log.with_name(f"{log.name}.seen.{len(reports) - 1}").touch()
        time.sleep(LOOK_S)
    return reports


def wait(http, endpoint, job_id, _log):
    while http.get(f"{endpoint}/status-sync/{job_id}").json()["status"] not in ENDED:
        pass
    return []


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_its_job_is_executed_once_and_ends_with_all_it_said(seen, kind, form, seconds):
    job = seen(kind, form, seconds)
    assert job.body["status"] == "COMPLETED", job.body
    assert "retries" not in job.body
    assert job.executions == [job.body["id"]]
    count = len(list(pieces(seconds)))
    if form == "generator":
        assert job.said == [{"chunk": number} for number in range(count)]
    else:
        assert job.body["output"] == seconds
    if form == "progress":
        assert job.said == [{"piece": number} for number in range(count)]
    assert seconds * 1000 <= job.body["executionTime"]
