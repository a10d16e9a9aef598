"""What a user of the JavaScript SDK sees."""

import json

import pytest

from tests.conformance.health import health
from tests.conformance.js_client import JSClient, JSError, node_process
from tests.conformance.served import KEY, on_frozen_clock
from tests.limits import PATIENCE_S

ENDED_WELL = {"started": True, "completed": True, "succeeded": True}
ENDED_BADLY = {"started": True, "completed": True, "succeeded": False}
NOT_ENDED = {"started": True, "completed": False, "succeeded": False}
EVERY_METHOD = {"run", "runSync", "status", "statusSync", "stream", "cancel", "health", "purgeQueue"}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with node_process(tmp_path_factory.mktemp("node")) as process:
        yield process


@pytest.fixture
def sdk(emulator, node):
    return JSClient(node, emulator.base_url, KEY)


def without_times(body):
    """A job's body without what differs from run to run, which it must have all the same."""
    assert isinstance(body["delayTime"], int)
    assert isinstance(body["executionTime"], int)
    assert body["workerId"]
    volatile = {"delayTime", "executionTime", "workerId"}
    return {key: value for key, value in body.items() if key not in volatile}


def test_these_tests_know_every_method(sdk):
    assert sdk.methods() == EVERY_METHOD


@pytest.mark.parametrize("value", ["text", 7, 0.5, True, ["a", 1], {"nested": {"deep": None}}, "größe 🐍"])
def test_an_input_of_any_kind_comes_back_untouched(sdk, value):
    assert sdk.call("echo", "runSync", {"input": value})["output"] == value


def test_run_sync(sdk):
    body = sdk.call("echo", "runSync", {"input": {"n": 1}})
    job_id = body["id"]
    assert job_id.startswith("sync-")
    assert without_times(body) == {"id": job_id, "status": "COMPLETED", "output": {"n": 1}, **ENDED_WELL}


def test_a_job_from_its_start_to_its_end(sdk, gate):
    queued = sdk.call("gate", "run", {"input": gate.input})
    job_id = queued["id"]
    assert queued == {"id": job_id, "status": "IN_QUEUE"}
    gate.meet()
    running = without_times(sdk.call("gate", "status", job_id))
    assert running == {"id": job_id, "status": "IN_PROGRESS", "output": "half-way", **NOT_ENDED}
    waiting = sdk.begin("gate", "statusSync", job_id)
    gate.open()
    ended = {"id": job_id, "status": "COMPLETED", "output": ["before", "after"], **ENDED_WELL}
    assert without_times(waiting.result(PATIENCE_S)) == ended
    assert without_times(sdk.call("gate", "status", job_id)) == ended


def test_a_job_that_waits_in_the_queue(sdk):
    job_id = sdk.call("cold", "run", {"input": {"n": 1}})["id"]
    assert sdk.call("cold", "status", job_id) == {"id": job_id, "status": "IN_QUEUE", **NOT_ENDED}


def test_status_sync_answers_after_its_timeout(sdk):
    job_id = sdk.call("cold", "run", {"input": {"n": 1}})["id"]
    assert sdk.call("cold", "statusSync", job_id, 1_000)["status"] == "IN_QUEUE"


def test_run_sync_gives_up_after_its_timeout_and_the_job_goes_on(sdk, gate):
    body = sdk.call("gate", "runSync", {"input": gate.input}, 1_000)
    assert (body["status"], body["completed"]) == ("IN_PROGRESS", False)
    gate.open()
    assert sdk.call("gate", "statusSync", body["id"])["output"] == ["before", "after"]


@on_frozen_clock
def test_run_sync_asks_again_for_a_job_that_takes_longer_than_runsync_waits(emulator, sdk, gate):
    answer = sdk.begin("gate", "runSync", {"input": gate.input})
    gate.meet()
    emulator.advance(90_000)
    gate.open()
    assert answer.result(PATIENCE_S)["output"] == ["before", "after"]
    assert emulator.logs("GET /v2/gate/status-sync/sync-")


def test_chunks_are_streamed_while_the_job_runs(sdk, gate):
    job_id = sdk.call("gate", "run", {"input": gate.input})["id"]
    chunks = sdk.stream("gate", job_id)
    assert next(chunks) == {"output": "before"}
    assert sdk.call("gate", "status", job_id)["status"] == "IN_PROGRESS"
    gate.open()
    assert list(chunks) == [{"output": "after"}]
    assert list(sdk.stream("gate", job_id)) == []


def test_a_stream_of_many_reads_loses_nothing(sdk):
    words = [f"word-{n}" for n in range(450)]
    job_id = sdk.call("streaming", "run", {"input": {"prompt": " ".join(words)}})["id"]
    sdk.call("streaming", "statusSync", job_id)
    assert [chunk["output"] for chunk in sdk.stream("streaming", job_id)] == words


def test_a_handler_that_does_not_stream_has_an_empty_stream(sdk):
    job_id = sdk.call("echo", "run", {"input": {"n": 1}})["id"]
    assert list(sdk.stream("echo", job_id)) == []
    assert sdk.call("echo", "status", job_id)["output"] == {"n": 1}


def test_a_stream_that_its_timeout_ends(sdk, gate):
    job_id = sdk.call("gate", "run", {"input": gate.input})["id"]
    gate.meet()
    # Any read is later than this; the SDK still hands out what that read brought.
    assert list(sdk.stream("gate", job_id, -1)) == [{"output": "before"}]
    gate.open()


def test_cancelling_a_queued_job(sdk):
    job_id = sdk.call("cold", "run", {"input": {"n": 1}})["id"]
    assert sdk.call("cold", "cancel", job_id) == {"id": job_id, "status": "CANCELLED"}
    assert sdk.call("cold", "status", job_id) == {"id": job_id, "status": "CANCELLED", **ENDED_BADLY}


def test_cancelling_a_running_job_ends_the_wait_for_it(sdk, gate):
    answer = sdk.begin("gate", "runSync", {"input": gate.input})
    gate.meet()
    (job_id,) = running_jobs(sdk, gate)
    assert sdk.call("gate", "cancel", job_id) == {"id": job_id, "status": "CANCELLED"}
    body = answer.result(PATIENCE_S)
    assert (body["id"], body["status"], body["succeeded"]) == (job_id, "CANCELLED", False)


def running_jobs(sdk, gate):
    listed = gate.emulator.get("/v2/gate/requests?status=IN_PROGRESS")["requests"]
    assert sdk.call("gate", "health")["jobs"]["inProgress"] == len(listed)
    return [job["id"] for job in listed]


def test_a_handler_that_raises(sdk):
    body = sdk.call("failing", "runSync", {"input": {"how": "raise"}})
    error = json.loads(body.pop("error"))
    assert without_times(body) == {"id": body["id"], "status": "FAILED", **ENDED_BADLY}
    assert error["error_message"] == "the prompt is too long"


def test_a_handler_that_returns_an_error(sdk):
    job_id = sdk.call("failing", "run", {"input": {"how": "return"}})["id"]
    body = sdk.call("failing", "statusSync", job_id)
    assert without_times(body) == {
        "id": job_id,
        "status": "FAILED",
        "error": "the prompt is too long",
        "output": {"longest_allowed": 2048},
        **ENDED_BADLY,
    }


def test_a_job_whose_worker_dies_twice(sdk):
    body = sdk.call("mock", "runSync", {"input": {"mock_crash": True}})
    assert (body["status"], body["retries"]) == ("FAILED", 1)
    assert body["error"] == "job timed out after 1 retries"
    assert sdk.call("mock", "health")["jobs"]["retried"] == 1


@on_frozen_clock
def test_a_job_that_takes_longer_than_its_policy_allows(emulator, sdk, gate):
    request = {"input": gate.input, "policy": {"executionTimeout": 6_000, "lowPriority": False}}
    answer = sdk.begin("gate", "runSync", request)
    gate.meet()
    emulator.advance(6_000)
    body = answer.result(PATIENCE_S)
    assert (body["status"], body["error"]) == ("FAILED", "executionTimeout exceeded")


@on_frozen_clock
def test_a_job_whose_ttl_runs_out(emulator, sdk, gate):
    answer = sdk.begin("gate", "runSync", {"input": gate.input, "policy": {"ttl": 10_000}})
    gate.meet()
    emulator.advance(10_000)
    body = answer.result(PATIENCE_S)
    assert (body["status"], body["completed"], body["succeeded"]) == ("TIMED_OUT", True, False)
    with pytest.raises(JSError) as thrown:
        sdk.call("gate", "status", body["id"])
    assert thrown.value.status == 404


def test_health(sdk):
    sdk.call("echo", "runSync", {"input": {"n": 1}})
    assert sdk.call("echo", "health") == health({"completed": 1}, {"idle": 1, "ready": 1})


def test_purging_the_queue(sdk):
    job_id = sdk.call("cold", "run", {"input": {"n": 1}})["id"]
    assert sdk.call("cold", "purgeQueue") == {"removed": 1, "status": "completed"}
    assert sdk.call("cold", "status", job_id)["status"] == "CANCELLED"
    assert sdk.call("cold", "purgeQueue") == {"removed": 0, "status": "completed"}
    with pytest.raises(JSError) as thrown:
        sdk.call("cold", "purgeQueue")
    assert thrown.value.status == 429


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("run", [{"input": 1}]),
        ("runSync", [{"input": 1}]),
        ("status", ["an-id"]),
        ("statusSync", ["an-id"]),
        ("cancel", ["an-id"]),
        ("health", []),
        ("purgeQueue", []),
    ],
)
def test_a_wrong_key(sdk, method, args):
    with pytest.raises(JSError) as thrown:
        sdk.call("echo", method, *args, key="a-wrong-key")
    assert thrown.value.status == 401
    assert thrown.value.body["detail"].startswith("invalid api key")


@pytest.mark.parametrize("method", ["status", "statusSync", "cancel"])
def test_a_job_that_is_not_there(sdk, method):
    with pytest.raises(JSError) as thrown:
        sdk.call("echo", method, "unknown-job-u1")
    assert (thrown.value.status, thrown.value.body["status"]) == (404, 404)
    with pytest.raises(JSError, match="404"):
        next(sdk.stream("echo", "unknown-job-u1"))


def test_what_is_refused(sdk):
    for request in ({"input": None}, {}, {"input": 1, "policy": {"executionTimeout": 4_999}}):
        with pytest.raises(JSError) as thrown:
            sdk.call("echo", "run", request)
        assert thrown.value.status == 400
