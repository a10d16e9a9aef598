"""The same jobs through every kind of worker, and the same bodies out of it.

Where the kinds differ, and why:

| | |
|---|---|
| function | a bare function has no config: no aggregated stream, no concurrency, no refresh of every job |
| function, script | a dying worker is seen at once; inline `os._exit` would end the emulator |
| script, external | the SDK drops what JSON cannot express without a word: the job is lost, not failed |
| external | nobody here can replace it: `refresh_worker` is only noted |

The SDKs that people have run through the same suite in `tests/long/test_sdk_versions.py`. Where they differ:

| SDK | |
|---|---|
| before 1.7.7 | a chunk with an error is a chunk like any other |
| 1.7.7 to 1.9.0 | a job that comes while others run begins when one of them has ended |
| before 1.10.0 | nobody fetches stop signals: a worker that is to stop a job is ended and replaced |
"""

from __future__ import annotations

import json

import pytest

from tests.workers.kinds import workers_of

KINDS = ["inline", "function", "script", "external"]
WITH_CONFIG = {"inline", "script", "docker", "ray", "external"}
STARTED_BY_US = {"inline", "function", "script", "docker", "ray"}
SDK = {"script", "docker", "ray", "external"}

VALUES = [
    None, True, 0, -1.5, "", "żółć 🚀", [], {}, [1, [2, {"a": None}]], {"big": 2**80, "small": 1e-300},
    {"output": 1, "status": "x"},
]  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def workers(request, tmp_path_factory):
    with workers_of(request.param, tmp_path_factory.mktemp(request.param)) as workers:
        yield workers


#: Since when the SDK does what it does today: see above.
ENDS_STREAM_WITH_ERROR = (1, 7, 7)
BEGINS_AT_ONCE = (1, 9, 1)
STOPS_ONE_JOB = (1, 10, 0)


def only(workers, kinds):
    """End the test where the kind has no such thing: see the table above."""
    return workers.kind in kinds


def outcome(body):
    """What a client is told, without the times and ids of one run."""
    assert {"delayTime", "executionTime", "id", "workerId"} <= body.keys()
    assert body["delayTime"] >= 0
    assert body["executionTime"] >= 0
    return {key: value for key, value in body.items() if key in ("status", "output", "error", "retries")}


def test_values_come_back_as_they_went_out(workers):
    form = "several" if workers.kind in WITH_CONFIG else "async"
    # `text` is JSON in a string: what the handler returns is not what the client sent.
    ids = [workers.run(form, {"do": "return", "text": json.dumps(value)}) for value in VALUES]
    for job_id, value in zip(ids, VALUES, strict=True):
        # The SDK leaves out an empty dict.
        told = {"status": "COMPLETED"} if value == {} else {"status": "COMPLETED", "output": value}
        assert outcome(workers.ended(form, job_id)) == told


def test_the_handler_gets_the_job_as_it_was_sent(workers):
    fields = {
        "policy": {"executionTimeout": 60_000, "ttl": 600_000},
        "s3Config": {"accessId": "a", "bucketName": "b"},
        "own": {"deep": [2**70, "żółć"]},
    }
    body = workers.runsync("sync", {"do": "job"}, **fields)
    assert body["output"] == {"id": body["id"], "input": {"do": "job"}, **fields}


@pytest.mark.parametrize("form", ["sync", "async"])
def test_what_a_handler_raises_is_told_as_the_sdk_tells_it(workers, form):
    body = workers.runsync(form, {"do": "raise"})
    assert body["status"] == "FAILED"
    assert "output" not in body
    error = json.loads(body["error"])
    assert error.keys() == {
        "error_type", "error_message", "error_traceback", "hostname", "worker_id", "runpod_version"
    }  # fmt: skip
    assert (error["error_type"], error["error_message"]) == ("<class 'ValueError'>", "the reason")
    assert 'raise ValueError("the reason")' in error["error_traceback"]
    assert error["worker_id"] == body["workerId"]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ({"error": "bad thing"}, {"status": "FAILED", "error": "bad thing"}),
        (
            {"error": "bad thing", "extra": 1},
            {"status": "FAILED", "error": "bad thing", "output": {"extra": 1}},
        ),
        ({"error": {"code": 7}}, {"status": "FAILED", "error": '{"code":7}'}),
        ({"error": "", "extra": 1}, {"status": "COMPLETED", "output": {"extra": 1}}),
    ],
)
def test_an_error_that_a_handler_returns_fails_the_job(workers, returned, told):
    form = "several" if workers.kind in WITH_CONFIG else "async"
    assert outcome(workers.runsync(form, {"do": "return", "text": json.dumps(returned)})) == told


def test_a_number_that_json_lacks_fails_the_job_by_name(workers):
    assert outcome(workers.runsync("sync", {"do": "nan"})) == {
        "status": "FAILED", "error": "output['score'][1] is nan, which JSON cannot express"
    }  # fmt: skip


def test_a_type_that_json_lacks_fails_the_job(workers):
    told = outcome(workers.runsync("sync", {"do": "bytes"}))
    if workers.kind in SDK:
        assert told == {"status": "FAILED", "error": "job timed out after 1 retries", "retries": 1}
    else:
        assert told["error"].startswith("output['image'] is of type bytes, which JSON cannot express")


@pytest.mark.parametrize("form", ["generator", "async-generator"])
def test_chunks_come_one_by_one_and_the_end_without_them(workers, form):
    job_id = workers.run(form, {"do": "stream", "chunks": 3})
    assert workers.chunks(form, job_id) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert outcome(workers.ended(form, job_id)) == {"status": "COMPLETED", "output": []}


def test_an_aggregated_stream_is_also_the_output(workers):
    if only(workers, WITH_CONFIG):
        job_id = workers.run("aggregate", {"do": "stream", "chunks": 3})
        assert workers.chunks("aggregate", job_id) == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert workers.ended("aggregate", job_id)["output"] == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("form", ["generator", "async-generator"])
def test_a_stream_that_raises_keeps_its_chunks_and_fails(workers, form):
    job_id = workers.run(form, {"do": "raise", "chunks": 3})
    assert workers.chunks(form, job_id) == [{"n": 0}, {"n": 1}, {"n": 2}]
    body = workers.ended(form, job_id)
    assert body["status"] == "FAILED"
    assert body["error"].startswith("handler: the reason \ntraceback: Traceback (most recent call last):")


def test_a_chunk_with_an_error_ends_the_stream(workers):
    job_id = workers.run("generator", {"do": "error", "chunks": 1})
    chunks, told = workers.chunks("generator", job_id), outcome(workers.ended("generator", job_id))
    if workers.sdk >= ENDS_STREAM_WITH_ERROR:
        assert chunks == [{"n": 0}]
        assert told == {"status": "FAILED", "error": "a bad chunk"}
    else:
        assert chunks == [{"n": 0}, {"error": "a bad chunk"}, "never sent"]
        assert told == {"status": "COMPLETED", "output": []}


def test_progress_is_seen_while_the_job_runs_and_gone_with_its_end(workers, tmp_path):
    job_id = workers.run("progress", {"go": str(tmp_path / "go")})
    while "output" not in (body := workers.status("progress", job_id)):
        assert body["status"] in ("IN_QUEUE", "IN_PROGRESS")
    assert (body["status"], body["output"]) == ("IN_PROGRESS", {"step": 1})
    (tmp_path / "go").touch()
    assert outcome(workers.ended("progress", job_id)) == {"status": "COMPLETED", "output": "end"}


def test_a_running_job_that_is_cancelled_is_stopped_and_its_worker_goes_on(workers, tmp_path):
    running = workers.run("async", {"do": "wait", "go": str(tmp_path / "never")})
    worker_id = workers.in_progress("async", running)["workerId"]
    queued = workers.run("async", {"do": "return", "text": '"next"'})
    assert workers.cancel("async", running) == "CANCELLED"
    assert workers.status("async", running)["status"] == "CANCELLED"
    body = workers.ended("async", queued)
    assert body["output"] == "next"
    assert (body["workerId"] == worker_id) is (workers.sdk >= STOPS_ONE_JOB)
    assert "retries" not in body


def test_a_queued_job_that_is_cancelled_never_starts(workers, tmp_path):
    running = workers.run("async", {"do": "wait", "go": str(tmp_path / "go")})
    workers.in_progress("async", running)
    queued = workers.run("async", {"do": "die", "marker": str(tmp_path / "never")})
    assert workers.cancel("async", queued) == "CANCELLED"
    (tmp_path / "go").touch()
    assert workers.ended("async", running)["output"] == "waited"
    assert workers.runsync("async", {"do": "return", "text": "1"})["output"] == 1
    assert not (tmp_path / "never").exists()


def test_several_jobs_run_at_once_in_one_worker(workers, tmp_path):
    if only(workers, WITH_CONFIG):
        before = []
        if workers.sdk < BEGINS_AT_ONCE:
            before.append(workers.run("several", {"do": "wait", "go": str(tmp_path / "go")}))
        ids = [workers.run("several", {"do": "meet", "others": 4}) for _ in range(4)]
        for job_id in before + ids:
            workers.in_progress("several", job_id)
        (tmp_path / "go").touch()
        bodies = [workers.ended("several", job_id) for job_id in ids]
        assert [body["output"] for body in bodies] == [sorted(ids)] * 4
        assert len({body["workerId"] for body in bodies}) == 1


def test_one_of_several_is_stopped_and_the_others_go_on(workers, tmp_path):
    if only(workers, WITH_CONFIG) and workers.sdk >= STOPS_ONE_JOB:
        go = {"do": "wait", "go": str(tmp_path / "go")}
        stopped, other = (
            workers.run("several", {**go, "go": str(tmp_path / "never")}),
            workers.run("several", go),
        )
        worker_ids = {workers.in_progress("several", job_id)["workerId"] for job_id in (stopped, other)}
        assert workers.cancel("several", stopped) == "CANCELLED"
        # The worker lets go of the one, and is not replaced for it.
        again = workers.runsync("several", {"do": "return", "text": "1"})
        (tmp_path / "go").touch()
        body = workers.ended("several", other)
        assert outcome(body) == {"status": "COMPLETED", "output": "waited"}
        assert {body["workerId"], again["workerId"]} == worker_ids


def test_a_worker_that_a_handler_wants_refreshed_starts_anew(workers):
    first = workers.runsync("async", {"do": "count"})
    asked = workers.runsync("async", {"do": "refresh"})
    assert asked["output"] == {"count": first["output"] + 1}
    after = workers.runsync("async", {"do": "count"})
    if workers.kind == "external":
        assert (after["output"], after["workerId"]) == (first["output"] + 1, first["workerId"])
    else:
        assert after["workerId"] != first["workerId"]
        # An inline worker shares the emulator's process, and so its modules.
        assert after["output"] == (first["output"] + 1 if workers.kind == "inline" else 1)


def test_a_worker_that_is_refreshed_after_each_job_starts_anew(workers):
    if only(workers, WITH_CONFIG & STARTED_BY_US):
        bodies = [workers.runsync("refresh", {"do": "count"}) for _ in range(2)]
        assert len({body["workerId"] for body in bodies}) == 2
        if workers.kind in ("script", "docker", "ray"):
            assert [body["output"] for body in bodies] == [1, 1]


def test_a_job_whose_worker_dies_is_queued_once_more(workers, tmp_path):
    if only(workers, {"function", "script", "docker", "ray"}):
        body = workers.runsync("sync", {"do": "die", "marker": str(tmp_path / "died")})
        assert outcome(body) == {"status": "COMPLETED", "output": "the second time", "retries": 1}


def test_a_failed_job_can_be_retried(workers):
    body = workers.runsync("async", {"do": "raise"})
    answer = workers.http.post(f"/v2/async/retry/{body['id']}")
    assert answer.json() == {"id": body["id"], "status": "IN_QUEUE"}
    assert workers.ended("async", body["id"])["status"] == "FAILED"


def test_the_counts_add_up_at_the_end(workers):
    for form in ("sync", "async", "generator"):
        jobs = workers.health(form)["jobs"]
        listed = workers.http.get(f"/v2/{form}/requests?limit=1000").json()["requests"]
        assert (jobs["inQueue"], jobs["inProgress"]) == (0, 0)
        assert jobs["completed"] == sum(job["status"] == "COMPLETED" for job in listed)
        assert jobs["failed"] == sum(job["status"] == "FAILED" for job in listed)
