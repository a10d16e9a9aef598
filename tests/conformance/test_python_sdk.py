"""What a user of the Python SDK's `runpod.Endpoint` sees."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import runpod

from tests.conformance.health import health, job_counts
from tests.conformance.served import KEY, environment, on_frozen_clock
from tests.limits import PATIENCE_S

HALF_AN_HOUR_MS = 30 * 60 * 1000
#: As a user's own program: nothing in it knows of the emulator.
PROGRAM = """
import os
import runpod

runpod.api_key = os.environ["RUNPOD_API_KEY"]
endpoint = runpod.Endpoint("echo")
print(endpoint.run_sync({"input": {"prompt": "hello"}}, timeout=300))
job = endpoint.run({"input": {"prompt": "again"}})
print(job.output(timeout=300), job.status())
"""


@pytest.fixture
def endpoint(emulator, monkeypatch):
    """Makes the SDK's endpoints, which take their URL from the module."""
    monkeypatch.setattr(runpod, "endpoint_url_base", emulator.base_url)
    monkeypatch.setattr(runpod, "api_key", KEY)
    return runpod.Endpoint


@pytest.fixture
def in_background():
    """Runs a call that blocks while the test goes on."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def body(endpoint_id, job):
    """The whole answer of /status, of which the SDK shows the status and the output."""
    return job.rp_client.get(f"{endpoint_id}/status/{job.job_id}")


def test_a_program_needs_only_the_variable(emulator, tmp_path):
    variables = {"RUNPOD_ENDPOINT_BASE_URL": emulator.base_url, "RUNPOD_API_KEY": KEY}
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment(tmp_path, **variables),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert program.returncode == 0, program.stderr
    assert program.stdout.splitlines() == [
        "{'prompt': 'hello'}",
        "{'prompt': 'again'} COMPLETED",
    ]


@pytest.mark.parametrize("value", ["text", 7, 0.5, True, ["a", 1], {"nested": {"deep": None}}, "größe 🐍"])
def test_an_input_of_any_kind_comes_back_untouched(endpoint, value):
    assert endpoint("echo").run_sync({"input": value}) == value


def test_the_sdk_wraps_what_has_no_input_key(endpoint):
    assert endpoint("echo").run_sync({"prompt": "hello"}) == {"prompt": "hello"}
    assert endpoint("echo").run({"prompt": "hello"}).output(timeout=PATIENCE_S) == {"prompt": "hello"}


def test_a_job_from_its_start_to_its_end(endpoint, gate):
    job = endpoint("gate").run({"input": gate.input})
    gate.meet()
    assert job.status() == "IN_PROGRESS"
    assert job.output() == "half-way"
    gate.open()
    assert job.output(timeout=PATIENCE_S) == ["before", "after"]
    assert job.status() == "COMPLETED"
    answer = body("gate", job)
    assert set(answer) == {"delayTime", "executionTime", "id", "output", "status", "workerId"}
    assert answer["id"] == job.job_id


def test_a_job_that_waits_in_the_queue(endpoint):
    job = endpoint("cold").run({"input": {"n": 1}})
    assert job.status() == "IN_QUEUE"
    assert job.output() is None
    with pytest.raises(TimeoutError, match="Job timed out"):
        job.output(timeout=1)
    assert job.status() == "IN_QUEUE"


def test_chunks_are_streamed_while_the_job_runs(endpoint, gate):
    job = endpoint("gate").run({"input": gate.input})
    chunks = job.stream()
    assert next(chunks) == "before"
    assert job.status() == "IN_PROGRESS"
    gate.open()
    assert list(chunks) == ["after"]
    assert job.output() == ["before", "after"]


def test_a_handler_that_does_not_stream_has_an_empty_stream(endpoint):
    job = endpoint("echo").run({"input": {"n": 1}})
    assert list(job.stream()) == []
    assert job.output() == {"n": 1}


def test_cancelling_a_queued_job(endpoint):
    job = endpoint("cold").run({"input": {"n": 1}})
    assert job.cancel() == {"id": job.job_id, "status": "CANCELLED"}
    assert job.status() == "CANCELLED"
    assert endpoint("cold").health()["jobs"]["inQueue"] == 0


def test_cancelling_a_running_job(endpoint, gate):
    job = endpoint("gate").run({"input": gate.input})
    gate.meet()
    assert job.cancel() == {"id": job.job_id, "status": "CANCELLED"}
    assert job.status() == "CANCELLED"
    assert endpoint("gate").health()["jobs"]["inProgress"] == 0


def test_cancelling_a_job_that_has_ended_leaves_it_as_it_is(endpoint):
    job = endpoint("echo").run({"input": {"n": 1}})
    assert job.output(timeout=PATIENCE_S) == {"n": 1}
    assert job.cancel() == {"id": job.job_id, "status": "COMPLETED"}


def test_a_handler_that_raises(endpoint):
    job = endpoint("failing").run({"input": {"how": "raise"}})
    assert job.output(timeout=PATIENCE_S) is None
    assert job.status() == "FAILED"
    error = json.loads(body("failing", job)["error"])
    assert error["error_type"] == "<class 'ValueError'>"
    assert error["error_message"] == "the prompt is too long"
    assert "ValueError: the prompt is too long" in error["error_traceback"]
    assert {"hostname", "worker_id", "runpod_version"} < set(error)


def test_a_handler_that_returns_an_error(endpoint):
    job = endpoint("failing").run({"input": {"how": "return"}})
    assert job.output(timeout=PATIENCE_S) == {"longest_allowed": 2048}
    assert job.status() == "FAILED"
    assert body("failing", job)["error"] == "the prompt is too long"
    assert endpoint("failing").health()["jobs"]["failed"] == 1


def test_run_sync_of_a_failed_job_is_an_answer_like_any_other(endpoint):
    assert endpoint("failing").run_sync({"input": {"how": "raise"}}) is None
    assert endpoint("failing").run_sync({"input": {"how": "return"}}) == {"longest_allowed": 2048}


def test_run_sync_gives_up_reading_after_its_timeout_and_the_job_goes_on(endpoint, gate):
    with pytest.raises(requests.exceptions.ReadTimeout):
        endpoint("gate").run_sync({"input": gate.input}, timeout=1)
    gate.meet()
    assert endpoint("gate").health()["jobs"]["inProgress"] == 1
    gate.open()


@on_frozen_clock
def test_run_sync_polls_for_a_job_that_takes_longer_than_runsync_waits(
    emulator, endpoint, gate, in_background
):
    output = in_background(endpoint("gate").run_sync, {"input": gate.input}, timeout=PATIENCE_S)
    gate.meet()
    emulator.advance(90_000)
    gate.open()
    assert output.result(PATIENCE_S) == ["before", "after"]
    assert emulator.logs("GET /v2/gate/status/sync-")


@on_frozen_clock
def test_a_job_that_takes_longer_than_its_policy_allows(emulator, endpoint, gate):
    job = endpoint("gate").run({"input": gate.input, "policy": {"executionTimeout": 6_000}})
    gate.meet()
    emulator.advance(5_999)
    assert job.status() == "IN_PROGRESS"
    emulator.advance(1)
    assert job.status() == "FAILED"
    assert body("gate", job)["error"] == "executionTimeout exceeded"
    assert body("gate", job)["executionTime"] == 6_000


@on_frozen_clock
def test_run_sync_of_a_job_whose_ttl_runs_out(emulator, endpoint, gate, in_background):
    output = in_background(endpoint("gate").run_sync, {"input": gate.input, "policy": {"ttl": 10_000}})
    gate.meet()
    emulator.advance(10_000)
    assert output.result(PATIENCE_S) is None
    assert endpoint("gate").health()["jobs"] == job_counts(completed=1, failed=1)


@on_frozen_clock
def test_a_job_whose_ttl_ran_out_in_the_queue_is_gone(emulator, endpoint):
    job = endpoint("cold").run({"input": {"n": 1}, "policy": {"ttl": 10_000}})
    emulator.advance(10_000)
    with pytest.raises(requests.HTTPError, match="404"):
        job.status()


@on_frozen_clock
def test_a_result_is_kept_for_half_an_hour(emulator, endpoint):
    job = endpoint("echo").run({"input": {"n": 1}})
    job.rp_client.get(f"echo/status-sync/{job.job_id}")
    emulator.advance(HALF_AN_HOUR_MS - 1)
    assert body("echo", job)["output"] == {"n": 1}
    emulator.advance(1)
    with pytest.raises(requests.HTTPError, match="404"):
        body("echo", job)


def test_health_of_an_endpoint_that_has_done_nothing(endpoint):
    assert endpoint("echo").health() == health({}, {})


def test_health_counts_jobs_and_workers(endpoint):
    endpoint("echo").run_sync({"input": {"n": 1}})
    endpoint("cold").run({"input": {"n": 1}})
    echo, cold = endpoint("echo").health(), endpoint("cold").health()
    assert echo["jobs"]["completed"] == 1
    assert (echo["workers"]["idle"], echo["workers"]["ready"]) == (1, 1)
    assert cold["jobs"]["inQueue"] == 1
    assert cold["workers"]["initializing"] == 1


def test_purging_the_queue(endpoint):
    cold = endpoint("cold")
    jobs = [cold.run({"input": {"n": n}}) for n in range(2)]
    assert cold.purge_queue() == {"removed": 2, "status": "completed"}
    assert [job.status() for job in jobs] == ["CANCELLED", "CANCELLED"]
    assert cold.purge_queue() == {"removed": 0, "status": "completed"}


def test_purging_more_often_than_is_allowed(endpoint):
    cold = endpoint("cold")
    cold.purge_queue()
    cold.purge_queue()
    with pytest.raises(requests.HTTPError, match="429"):
        cold.purge_queue()


@pytest.mark.parametrize(
    "call",
    [
        lambda endpoint: endpoint.run({"input": {"n": 1}}),
        lambda endpoint: endpoint.run_sync({"input": {"n": 1}}),
        lambda endpoint: endpoint.health(),
        lambda endpoint: endpoint.purge_queue(),
    ],
    ids=["run", "run_sync", "health", "purge_queue"],
)
def test_a_wrong_key(endpoint, call):
    with pytest.raises(RuntimeError, match="401 Unauthorized"):
        call(endpoint("echo", api_key="a-wrong-key"))


def test_a_wrong_key_asking_for_a_job(endpoint):
    job = endpoint("echo").run({"input": {"n": 1}})
    stranger = runpod.endpoint.Job("echo", job.job_id, endpoint("echo", api_key="wrong").rp_client)
    for ask in (stranger.status, stranger.output, stranger.cancel, lambda: next(stranger.stream())):
        with pytest.raises(RuntimeError, match="401 Unauthorized"):
            ask()


def test_what_is_not_there(endpoint):
    with pytest.raises(requests.HTTPError, match="404"):
        endpoint("unknown").run({"input": {"n": 1}})
    client = endpoint("echo").rp_client
    with pytest.raises(requests.HTTPError, match="404"):
        client.get("echo/status/unknown-job-u1")


@pytest.mark.parametrize(
    "fields", [{"policy": {"executionTimeout": 4_999}}, {"policy": {"ttl": 1}}, {"webhook": "no-url"}]
)
def test_what_is_refused(endpoint, fields):
    with pytest.raises(requests.HTTPError, match="400"):
        endpoint("echo").run({"input": {"n": 1}, **fields})
