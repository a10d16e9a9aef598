"""What the console asks of the emulator beyond what others do: its events, figures, and what changes it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.client import emulated, served
from tests.limits import PATIENCE_S
from tests.pipelining import submit_many

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.api.client import Client

pytestmark = pytest.mark.anyio


def handle(job: dict[str, Any]) -> Any:
    if isinstance(job["input"], dict) and job["input"].get("fail"):
        raise ValueError("out of luck")
    return job["input"]


def count_up(job: dict[str, Any]) -> Any:
    yield from range(job["input"]["to"])


class Events:
    """Server-sent events as they come."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.last_id = ""

    async def next(self) -> tuple[str, dict[str, Any]]:
        kind = data = ""
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "id":
                    self.last_id = value
                elif name == "data":
                    data = value
                elif not line and kind:
                    return kind, json.loads(data)
        raise AssertionError("the stream has ended")

    async def until(self, kind: str, **wanted: Any) -> dict[str, Any]:
        while True:
            came, data = await self.next()
            if came == kind and all(data.get(key) == value for key, value in wanted.items()):
                return data


@asynccontextmanager
async def following(client: Client, last_id: str = "", query: str = "") -> AsyncIterator[Events]:
    headers = {"last-event-id": last_id}
    async with client.http.stream("GET", f"/_emulator/events{query}", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Events(answer.aiter_lines())


async def control(client: Client, method: str, path: str, **options: Any) -> Any:
    response = await client.http.request(method, f"/_emulator{path}", **options)
    assert response.status_code == 200, response.text
    return response.json()


async def test_events_tell_of_each_step_of_a_job():
    async with served(handle) as client, following(client) as events:
        kind, hello = await events.next()
        assert (kind, hello["resumed"], hello["missed"]) == ("hello", False, False)
        job_id = await client.run({"word": "hi"})
        steps = [await events.until("job", job_id=job_id) for _ in range(3)]
        assert [(step["from"], step["job"]["status"]) for step in steps] == [
            (None, "IN_QUEUE"),
            ("IN_QUEUE", "IN_PROGRESS"),
            ("IN_PROGRESS", "COMPLETED"),
        ]
        assert steps[0]["job"]["preview"] == '{"word": "hi"}'


async def test_events_that_came_while_nobody_listened_are_sent_on_resuming():
    async with served(handle) as client:
        async with following(client) as events:
            await events.next()
            first = await client.run({"word": "one"})
            await events.until("job", job_id=first)
        second = await client.run({"word": "two"})
        async with following(client, events.last_id) as again:
            _, hello = await again.next()
            assert (hello["resumed"], hello["missed"]) == (True, False)
            while (event := await again.until("job"))["job_id"] != second:
                assert event["job"]["status"] != "IN_QUEUE", "it had this one"


async def test_events_of_another_run_are_not_resumed():
    async with served(handle) as client, following(client, "0a0a0a0a-7") as events:
        assert (await events.next())[1]["resumed"] is False


async def test_events_that_are_no_longer_kept_are_said_to_be_missed():
    async with served(handle, options={"rate_limits": False}, workers_max=0) as client:
        async with following(client) as events:
            await events.next()
        url = f"{client.emulator.url}/v2/ep/run"
        await asyncio.to_thread(submit_many, url, range(2_600))
        async with following(client, events.last_id) as again:
            assert (await again.next())[1]["missed"] is True


async def test_events_of_some_kinds_alone():
    async with served(handle) as client, following(client, query="?kind=clock&kind=fault") as events:
        await events.next()
        await client.runsync({"word": "hi"})
        await control(client, "POST", "/clock/advance", json={"by_ms": 1000})
        kind, told = await events.next()
        assert (kind, told["mode"]) == ("clock", "frozen")


async def test_events_show_no_secrets():
    body = {"input": 1, "s3Config": {"accessId": "AKIA1", "accessSecret": "S3CRET", "bucketName": "b"}}
    async with served(handle, workers_max=0) as client, following(client) as events:
        await events.next()
        await client.run(1, s3Config=body["s3Config"])
        job = await events.until("job")
        assert job["job"]["preview"] == "1"
        assert "AKIA1" not in json.dumps(job)


async def test_a_timeline_shows_the_attempt_that_was_lost():
    async with emulated(workers_max=1, cold_start_ms=500) as client:
        job_id = await client.run({"mock_delay": 1})
        fault = {"match": {"endpoint": "ep"}, "times": 1, "then": {"crash": "mid"}}
        await control(client, "POST", "/faults", json=fault)
        await control(client, "POST", "/clock/advance", json={"by_ms": 10_000})
        drawn = await control(client, "GET", f"/jobs/{job_id}/timeline")
        assert [attempt["outcome"] for attempt in drawn["attempts"]] == ["LOST", "COMPLETED"]
        first = drawn["attempts"][0]
        assert first["cold_to_ms"] - first["cold_from_ms"] == 500
        assert any(mark["kind"] == "fault" for mark in drawn["marks"])


async def test_chunks_are_shown_without_being_taken_from_who_reads_the_stream():
    async with emulated(count_up) as client:
        job_id = await client.run({"to": 3})
        await client.ended(job_id)
        shown = await control(client, "GET", f"/jobs/{job_id}/output")
        assert [each["output"] for each in shown["outputs"]] == [0, 1, 2]
        stream = (await client.get(f"/stream/{job_id}")).json()["stream"]
        assert [each["output"] for each in stream] == [0, 1, 2]


async def test_a_job_is_run_again():
    async with emulated(handle) as client:
        job_id = await client.run({"word": "hi"})
        again = await control(client, "POST", f"/jobs/{job_id}/run-again")
        assert (again["again_of"], again["input"]) == (job_id, {"word": "hi"})
        edited = await control(
            client, "POST", f"/jobs/{job_id}/run-again", json={"request": {"input": {"word": "ho"}}}
        )
        assert (await client.ended(edited["id"]))["output"] == {"word": "ho"}


async def test_jobs_are_listed_by_filters_that_combine():
    async with emulated(handle) as client:
        wanted = await client.run({"word": "needle", "fail": True})
        for word in ("hay", "needle"):
            await client.ended(await client.run({"word": word}))
        await client.ended(wanted)
        listed = await control(client, "GET", "/jobs/list?text=needle&status=FAILED&status=CANCELLED")
        assert [job["id"] for job in listed["jobs"]] == [wanted]
        assert (listed["jobs"][0]["error"], listed["total"], listed["next"]) == (
            "ValueError: out of luck",
            3,
            None,
        )


async def test_a_page_of_jobs_tells_where_the_next_begins():
    async with emulated(handle, workers_max=0) as client:
        ids = [await client.run({"n": n}) for n in range(5)]
        seen: list[str] = []
        offset = 0
        while offset is not None:
            page = await control(client, "GET", f"/jobs/list?limit=2&offset={offset}")
            seen += [job["id"] for job in page["jobs"]]
            offset = page["next"]
        assert seen == ids[::-1]


async def test_jobs_are_exported_as_lines_and_as_har():
    async with emulated(handle) as client:
        job_id = await client.run({"word": "hi"})
        await client.ended(job_id)
        lines = (await client.http.get("/_emulator/jobs/export")).text.splitlines()
        assert [json.loads(line)["id"] for line in lines] == [job_id]
        har = await control(client, "GET", "/jobs/export?format=har")
        assert {call["request"]["url"].rsplit("/", 1)[-1] for call in har["log"]["entries"]} >= {"run"}


async def test_settings_are_changed_while_jobs_wait():
    async with emulated(handle, workers_max=0) as client:
        job_id = await client.run({"word": "hi"})
        view = await control(client, "PATCH", "/endpoints/ep", json={"workers_max": 1, "idle_timeout_s": 60})
        assert (view["workers_max"], view["idle_timeout_s"]) == (1, 60.0)
        assert (await client.ended(job_id))["status"] == "COMPLETED"
        await client.clock.advance(59_000)
        assert await client.workers() == {"idle": 1}
        await control(client, "PATCH", "/endpoints/ep", json={"idle_timeout_s": 5})
        await client.clock.settle()
        assert await client.workers() == {}


async def test_settings_out_of_bounds_change_nothing():
    async with emulated(handle) as client:
        refused = await client.http.patch(
            "/_emulator/endpoints/ep", json={"workers_min": 9, "workers_max": 2}
        )
        assert refused.status_code == 400
        assert "workers_min" in refused.json()["error"]["message"]
        assert (await control(client, "GET", "/endpoints/ep"))["workers_max"] == 3


async def test_a_paused_worker_gets_no_jobs_until_it_is_resumed():
    async with emulated(handle, workers_max=1, workers_min=1) as client:
        await client.clock.settle()
        (worker,) = (await control(client, "GET", "/workers"))["workers"]
        await control(client, "POST", f"/workers/{worker['id']}/pause")
        job_id = await client.run({"word": "hi"})
        assert (await client.status(job_id))["status"] == "IN_QUEUE"
        await control(client, "POST", f"/workers/{worker['id']}/resume")
        assert (await client.ended(job_id))["status"] == "COMPLETED"


async def test_a_throttled_worker_comes_back_when_it_is_resumed():
    async with emulated(handle, workers_max=1, workers_min=1) as client:
        await client.clock.settle()
        (worker,) = (await control(client, "GET", "/workers"))["workers"]
        throttled = (await control(client, "POST", f"/workers/{worker['id']}/throttle"))["worker"]
        assert throttled["state"] == "throttled"
        job_id = await client.run({"word": "hi"})
        assert (await client.status(job_id))["status"] == "IN_QUEUE"
        job = await control(client, "GET", f"/jobs/{job_id}")
        assert "throttled by hand" in job["waiting_for"]
        await control(client, "POST", f"/workers/{throttled['id']}/resume")
        assert (await client.ended(job_id))["status"] == "COMPLETED"


async def test_a_killed_worker_loses_its_job_which_is_queued_again():
    async with emulated(workers_max=1) as client:
        job_id = await client.run({"mock_delay": 60})
        running = await client.status(job_id)
        await control(client, "POST", f"/workers/{running['workerId']}/kill")
        assert (await client.status(job_id))["status"] == "IN_QUEUE"
        assert (await client.jobs())["retried"] == 1


async def test_a_stopped_worker_goes():
    async with emulated(handle, workers_max=1) as client:
        await client.runsync({"word": "hi"})
        (worker,) = (await control(client, "GET", "/workers"))["workers"]
        assert await control(client, "POST", f"/workers/{worker['id']}/stop") == {"worker": None}
        assert await client.workers() == {}


async def test_metrics_of_an_endpoint_are_productions():
    async with emulated(handle) as client:
        await client.runsync({"word": "hi"})
        body = (await client.get("/metrics")).json()
        assert body["workers"]["ready"] == 1
        assert len(body["readyWorkers"]) == 1
        assert list(body["workers"]) == ["idle", "initializing", "ready", "running", "throttled", "unhealthy"]


async def test_prometheus_reads_figures_that_are_the_endpoints_own():
    async with emulated(handle) as client:
        await client.runsync({"word": "hi"})
        await client.runsync({"fail": True})
        text = (await client.http.get("/_emulator/metrics")).text
        assert 'runpod_jobs_ended_total{endpoint="ep",status="completed"} 1.0' in text
        assert 'runpod_jobs_ended_total{endpoint="ep",status="failed"} 1.0' in text
        assert 'runpod_execution_seconds_count{endpoint="ep"} 2.0' in text
        assert "python_info" not in text


async def test_charts_hold_what_happened_when():
    async with emulated(workers_max=1) as client:
        await client.run({"mock_delay": 3})
        await client.clock.advance(3_000)
        charts = await control(client, "GET", "/endpoints/ep/charts?window_s=10&points=10")
        assert sum(charts["ended"]["completed"]) == 1
        assert [value for value in charts["execution_ms"]["p90"] if value is not None] == [3_000]
        assert max(charts["workers"]["running"]) == 1
        assert charts["totals"]["submitted"] == 1


async def test_a_webhook_is_sent_again_to_another_url():
    async with served(handle) as client:
        base = client.emulator.url
        await client.runsync({"word": "hi"}, webhook=f"{base}/_emulator/sink/first")
        await control(client, "POST", "/sinks/first/wait", json={})
        (delivery,) = (await control(client, "GET", "/webhooks"))["webhooks"]
        other = {"url": f"{base}/_emulator/sink/second"}
        await control(client, "POST", f"/webhooks/{delivery['id']}/redeliver", json=other)
        second = await control(client, "POST", "/sinks/second/wait", json={})
        assert second["deliveries"][0]["body"]["output"] == {"word": "hi"}
        detail = await control(client, "GET", f"/webhooks/{delivery['id']}")
        assert detail["body"]["status"] == "COMPLETED"
        assert [sink["name"] for sink in (await control(client, "GET", "/sinks"))["sinks"]] == [
            "first",
            "second",
        ]
        refused = await client.http.post(
            f"/_emulator/webhooks/{delivery['id']}/redeliver", json={"url": "ftp://x"}
        )
        assert refused.status_code == 400


async def test_what_a_receiver_answered_is_kept_with_the_attempt():
    async with served(handle) as client:
        answers = {"answers": [{"status": 200, "body": "thank you"}]}
        await control(client, "PUT", "/sinks/hook/answers", json=answers)
        await client.runsync({"word": "hi"}, webhook=f"{client.emulator.url}/_emulator/sink/hook")
        await control(client, "POST", "/journal/wait", json={"kind": "webhook"})
        (delivery,) = (await control(client, "GET", "/webhooks"))["webhooks"]
        (attempt,) = delivery["attempts"]
        assert (attempt["status"], attempt["answer"]) == (200, "thank you")


async def test_the_inputs_of_files_beside_the_handler_are_offered(tmp_path):
    (tmp_path / "handler.py").write_text("def handler(job):\n    return job['input']\n")
    (tmp_path / "test_input.json").write_text('{"input": {"prompt": "hi"}}')
    (tmp_path / ".runpod").mkdir()
    (tmp_path / ".runpod" / "tests.json").write_text('{"tests": [{"name": "basic", "input": {"n": 1}}]}')
    async with emulated(str(tmp_path / "handler.py:handler")) as client:
        offered = (await control(client, "GET", "/endpoints/ep/inputs"))["inputs"]
        assert [(each["name"], each["input"]) for each in offered] == [
            ("test_input.json 1", {"prompt": "hi"}),
            ("basic", {"n": 1}),
        ]
