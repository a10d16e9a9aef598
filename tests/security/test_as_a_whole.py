"""A transition happens as a whole or not at all, whatever is asked or told on the way.

attack.md 4, 6, 17, 19, 24, 26, 29, 30.
"""

import gc
import json
import math

import pytest

from emulator import Clock, Emulator, EndpointConfig, VirtualClock
from emulator.clock.clock import LATEST_MS
from emulator.core.json_faults import why_not_json
from emulator.core.starts import Starts
from emulator.errors import ClockError, ConfigError
from emulator.workers import runner
from tests.api.client import emulated, served
from tests.api.receiver import receiving

pytestmark = pytest.mark.anyio

JOBS = {"completed": 0, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 0}
#: Deeper than the engine of JSON paths goes.
DEEP = json.loads('{"a":' * 150 + "1" + "}" * 150)
PATH = {"input": {"$..prompt": "x"}}


async def ordered(client, then):
    answer = await client.http.post("/_emulator/faults", json={"match": PATH, "then": then})
    assert answer.status_code == 200, answer.text


# Matchers


@pytest.mark.parametrize(
    "then", [{"stall_ms": 1_000}, {"fail": "ordered"}, {"latency_ms": 1_000}, {"crash": "before"}]
)
async def test_a_rule_that_cannot_be_applied_to_an_input_does_not_match_it(then):
    """The job stood nowhere, or was in progress with nobody, and its worker was lost (4)."""
    async with emulated() as client:
        await ordered(client, then)
        for _ in range(2):
            assert (await client.runsync(DEEP))["status"] == "COMPLETED"
        assert await client.jobs() == {**JOBS, "completed": 2}
        assert await client.workers() == {"idle": 1}


async def test_a_webhook_is_called_though_a_rule_cannot_be_applied_to_its_job():
    """It was never called, and nobody was told (4)."""
    async with receiving() as receiver, emulated() as client:
        await ordered(client, {"webhook": "refuse"})
        job = await client.runsync(DEEP, webhook=receiver.url)
        await receiver.received(1)
        assert receiver.states == [(job["id"], "COMPLETED")]


@pytest.mark.parametrize("what", ["find", "count"])
async def test_the_journal_is_searched_though_a_path_cannot_be_applied_to_an_entry(what):
    async with emulated() as client:
        await client.runsync(DEEP)
        body = {"match": {"request": {"body": {"$..prompt": "x"}}}}
        answer = await client.http.post(f"/_emulator/journal/{what}", json=body)
        assert answer.status_code == 200, answer.text


async def test_a_stub_that_cannot_be_compared_fails_its_job_and_says_so():
    async with emulated() as client:
        stub = {"when": PATH, "returns": 1}
        assert (await client.http.post("/_emulator/endpoints/ep/stubs", json=stub)).status_code == 200
        body = await client.runsync(DEEP)
        assert body["status"] == "FAILED"
        assert "$..prompt: it cannot be looked for here" in body["error"]
        assert await client.workers() == {"idle": 1}


# Listeners


@pytest.mark.parametrize("at", ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"])
async def test_a_listener_that_fails_fails_nobody_else(at, caplog):
    """Jobs and workers were lost where it failed, in other ways at each state (4)."""

    def on_event(event):
        if getattr(getattr(event, "job", None), "status", None) == at:
            raise ZeroDivisionError

    async with emulated(lambda job: "fine", options={"on_event": on_event}) as client:
        for _ in range(2):
            assert (await client.runsync())["output"] == "fine"
        assert await client.jobs() == {**JOBS, "completed": 2}
        assert await client.workers() == {"idle": 1}
    told = [record for record in caplog.records if "a listener failed" in record.message]
    assert [bool(record.exc_info) for record in told] == [True, False]


async def test_a_worker_that_cannot_be_started_is_tried_again(monkeypatch):
    """Whoever submitted a job when no thread was left got a 500, for a job that stood in the queue."""
    async with emulated(lambda job: "fine") as client:
        with monkeypatch.context() as patched:
            patched.setattr("emulator.workers.inline.InlineLauncher.start", lambda *_: 1 / 0)
            job_id = await client.run()
            await client.clock.settle()
            assert await client.workers() == {"unhealthy": 1}
            workers = (await client.http.get("/_emulator/workers")).json()["workers"]
            assert "it cannot be started: ZeroDivisionError" in workers[0]["reason"]
        await client.clock.advance(1_000)
        assert (await client.ended(job_id))["output"] == "fine"


# Numbers

NUMBERS = ("idle_timeout_s", "cold_start_ms", "workers_max", "scaler_value", "ttl_ms", "execution_timeout_ms")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400, -1])
@pytest.mark.parametrize("name", NUMBERS)
async def test_a_number_out_of_bounds_is_refused_with_the_bound(name, value):
    """With an endless idle timeout no job ever ran (6)."""
    with pytest.raises(ConfigError, match=f"{name} is .*: it must be .* \\d"):
        EndpointConfig(**{name: value})


@pytest.mark.parametrize("value", ["Infinity", "NaN", "1e999", "-1", "1" * 400])
@pytest.mark.parametrize("name", NUMBERS)
async def test_over_http_too(name, value):
    async with emulated() as client:
        answer = await client.http.put(
            "/_emulator/endpoints/other", content=f'{{"handler": null, "{name}": {value}}}'
        )
        assert answer.status_code == 400, answer.text
        assert name in answer.json()["error"]["message"]
        assert (await client.http.get("/_emulator/endpoints/other")).status_code == 404


# Time


@pytest.mark.parametrize("mode", ["scaled:1e300", "scaled:1e7", "scaled:1e-300", "scaled:nan", "scaled:-1"])
async def test_time_does_not_run_faster_than_can_be_counted(mode):
    """It was past the year 9999 in no time, and answers had no date (19)."""
    async with emulated() as client:
        answer = await client.http.put("/_emulator/clock", json={"mode": mode})
        assert answer.status_code == 400, answer.text
        assert "from 0.001 to 1000000" in answer.json()["error"]["message"]
    with pytest.raises(ClockError):
        Clock(rate=float(mode.removeprefix("scaled:")))


async def test_time_ends_with_the_year_9999_and_everything_is_answered_there():
    """One answer a second was a bare 500 (19)."""
    async with emulated(options={"clock": VirtualClock(start_ms=LATEST_MS - 1_000)}) as client:
        await client.runsync()
        too_far = await client.http.post("/_emulator/clock/advance", json={"by_ms": 1_001})
        assert too_far.status_code == 400
        assert "time ends with the year 9999" in too_far.json()["error"]["message"]
        await client.clock.advance(1_000)
        assert (await client.runsync())["status"] == "COMPLETED"
        for path in ("/v2/ep/requests", "/_emulator/journal?format=har", "/_emulator/jobs"):
            answer = await client.http.get(path)
            assert answer.status_code == 200, answer.text
        assert answer.headers["date"] == "Fri, 31 Dec 9999 23:59:59 GMT"
        client.clock.set_mode("scaled:1000000")
        await client.clock.settle()
        assert client.clock.now_ms() == LATEST_MS
        assert (await client.get("/health")).status_code == 200


async def test_a_timer_that_fails_keeps_no_other_from_firing(caplog):
    clock = VirtualClock(start_ms=0)
    fired = []
    clock.call_at(1_000, "bad", lambda _: 1 / 0, None)
    clock.call_at(1_000, "good", fired.append, 1)
    assert len(await clock.advance(1_000)) == 2
    assert fired == [1]
    assert "the timer 'bad' failed" in caplog.text
    clock.close()


async def test_a_start_that_fails_is_tried_again_in_real_time_on_a_clock_that_runs_faster(monkeypatch):
    """A handler that cannot be imported was started five times a second (30)."""
    emulator = Emulator(
        {"ep": EndpointConfig(handler=lambda job: 1, workers_max=1)},
        clock=Clock(rate=1000),
    )
    async with emulator:
        endpoint = emulator.endpoint("ep")
        monkeypatch.setattr("emulator.workers.inline.InlineLauncher.start", lambda *_: 1 / 0)
        endpoint.submit({"input": 1})
        await endpoint.clock.settle()
        [worker] = endpoint.pool
        assert worker.state == "unhealthy"
        assert worker.restart_timer.when_ms - worker.starting_ms >= 1_000 * 1000


# Texts

LONG = "a" * 300
PATHS = [
    {"handler": "a\0b.py"},
    {"handler": f"{LONG}.py"},
    {"handler": f"{LONG}.py:f"},
    {"handler": "loop.py"},
    {"handler": "loop.py:f"},
    {"handler": "h.py:f:f"},
    {"handler": "\ud800.py"},
    {"handler": "h.py:f", "workdir": "a\0b"},
    {"handler": "h.py:f", "python": "a\0b"},
    {"handler": "h.py:f", "worker_args": ["a\0b"]},
    {"handler": "h.py:f", "worker_env": {"A=": "b"}},
    {"handler": "h.py:f", "worker_env": {"A": "\ud800"}},
    {"command": [LONG]},
]


@pytest.mark.parametrize("kind", ["process", "inline"])
@pytest.mark.parametrize("settings", PATHS, ids=lambda each: ascii(each)[:40])
async def test_what_no_system_takes_as_a_path_or_an_argument_is_refused(
    settings, kind, tmp_path, monkeypatch
):
    """They were 500s, or accepted and crashed for ever (24)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.py").symlink_to("loop.py")
    (tmp_path / "h.py").write_text("def f(job):\n    return 1\n")
    async with served(options={"code_over_http": True}) as client:
        body = json.dumps({"worker_kind": kind, **settings})
        answer = await client.http.put("/_emulator/endpoints/other", content=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["message"]
        # Nothing is left of it.
        assert len(client.emulator._scenarios) == 1


def test_a_link_that_leads_to_itself_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.py").symlink_to("loop.py")
    config = EndpointConfig(handler="loop.py", worker_kind="process")
    assert Emulator({"ep": config}).projects()["ep"].folder == tmp_path


async def test_the_number_of_a_last_event_may_be_any_text():
    """One of over 4300 digits was a 500 (24)."""
    async with emulated(lambda job: print("a line")) as client:
        job_id = (await client.runsync())["id"]
        for last in ("9" * 5000, "x", "-1", "\u0663"):
            answer = await client.http.get(
                f"/_emulator/jobs/{job_id}/logs", headers={"last-event-id": last.encode()}
            )
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("asked", "given"), [("2", 2), ("0000000002", 2), ("9" * 5000, 5), ("1234567890", 5), ("0", 1), ("x", 1)]
)
async def test_a_batch_is_as_large_as_was_asked_for(asked, given):
    """Ten digits counted as 1 (29)."""
    async with emulated(worker_kind="external") as client:
        for _ in range(5):
            await client.run()
        answer = await client.get(f"/job-take-batch/w?batch_size={asked}")
        assert len(answer.json()) == given


# Tables


async def test_rate_limits_of_endpoints_that_are_gone_are_forgotten():
    """Each endpoint that had ever been asked was kept (26)."""
    async with emulated() as client:
        for number in range(3):
            path = f"/_emulator/endpoints/e{number}"
            assert (await client.http.put(path, json={})).status_code == 200
            assert (await client.http.post(f"/v2/e{number}/run", json={"input": 1})).status_code == 200
            assert (await client.http.delete(path)).status_code == 200
        await client.run()
        gc.collect()
        meters = client.emulator._rate_limits._meters
        assert [endpoint.id for endpoint in meters] == ["ep"]


@pytest.mark.parametrize(
    ("bound", "method", "path", "body"),
    [
        ("emulator.scenario.faults.FAULTS_MAX", "POST", "/_emulator/faults", {"then": {"status": 503}}),
        ("emulator.scenario.stubs.STUBS_MAX", "POST", "/_emulator/endpoints/ep/stubs", {"returns": 1}),
        ("emulator.emulator.ENDPOINTS_MAX", "PUT", "/_emulator/endpoints/other", {}),
        ("emulator.webhooks.sinks._SINKS_MAX", "GET", "/_emulator/sinks/other", None),
    ],
)
async def test_there_is_a_most_of_what_can_be_ordered(bound, method, path, body, monkeypatch):
    async with emulated() as client:
        monkeypatch.setattr(bound, 2)
        statuses, number = [], 0
        for number in range(4):
            at = path.replace("other", f"other{number}")
            answer = await client.http.request(method, at, json=body)
            statuses.append(answer.status_code)
        assert statuses in ([200, 200, 400, 400], [200, 400, 400, 400])
        assert "there are 2 " in answer.json()["error"]["message"]


async def test_there_is_a_most_of_workers_that_come_by_themselves(monkeypatch):
    monkeypatch.setattr("emulator.core.gateway.STRANGERS_MAX", 2)
    async with emulated(worker_kind="external") as client:
        for number in range(4):
            await client.begin("GET", f"/job-take/w{number}")
        assert await client.workers() == {"idle": 2}
        await client.clock.advance(120_000)


def test_kinds_of_failures_that_have_been_told_are_bounded():
    starts = Starts("ep")
    for number in range(1_000):
        letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        assert letters in starts.failed(f"it failed as {letters}", older_serves=False)
    assert len(starts._told) <= 100


async def test_a_bare_function_is_replaced_as_it_asked_though_its_output_is_no_json(monkeypatch):
    """Its result was told without that (29)."""
    monkeypatch.setenv("RUNPOD_POD_ID", "w")
    monkeypatch.setenv("RUNPOD_WEBHOOK_GET_JOB", "http://127.0.0.1:1/job-take/$ID?")
    monkeypatch.setenv("RUNPOD_WEBHOOK_POST_OUTPUT", "http://127.0.0.1:1/job-done/w/$ID?")
    told = []

    async def call(self, method, url, body):
        told.append(json.loads(body))
        return 200, b"{}"

    monkeypatch.setattr(runner.Calls, "call", call)
    worker = runner.Runner(lambda job: {"x": object(), "refresh_worker": True}, why_not_json)
    assert await worker._post("j", await worker._run_job("j", {"id": "j"})) is None
    assert told[0]["stopPod"] is True
    assert "object" in told[0]["error"]
