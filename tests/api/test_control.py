"""The emulator's own API under /_emulator: clock, health, reset, errors, documentation."""

import pytest

from emulator import Clock, Emulator, VirtualClock, __version__
from tests.api.client import client_of, emulated

pytestmark = pytest.mark.anyio

START_MS = 1_767_323_045_678


def frozen_at_start():
    return {"clock": VirtualClock(start_ms=START_MS)}


async def control(client, method, path, **options):
    response = await client.http.request(
        method, f"/_emulator{path}", headers={"authorization": ""}, **options
    )
    return response.status_code, response.json()


def advance(client, by_ms):
    return control(client, "POST", "/clock/advance", json={"by_ms": by_ms})


async def test_the_clock_of_an_emulator_at_rest():
    async with emulated(options=frozen_at_start()) as client:
        assert await control(client, "GET", "/clock") == (
            200,
            {
                "mode": "frozen",
                "rate": 0.0,
                "now_ms": START_MS,
                "pending": 0,
                "next_timer": None,
                "timers": [],
            },
        )


async def test_the_clock_names_what_comes_next():
    async with emulated(options=frozen_at_start(), workers_max=0) as client:
        await client.run(policy={"ttl": 20_000})
        job_id = await client.run(policy={"ttl": 10_000})
        _, body = await control(client, "GET", "/clock")
        assert body["pending"] == 2
        assert body["next_timer"] == {"at_ms": START_MS + 10_000, "kind": "ttl", "subject": job_id}
        assert [timer["at_ms"] for timer in body["timers"]] == [START_MS + 10_000, START_MS + 20_000]


async def test_advance_answers_once_everything_has_settled():
    async with emulated(options=frozen_at_start(), cold_start_ms=1_000) as client:
        job_id = await client.run({"mock_delay": 2})
        status, body = await advance(client, 3_000)
        assert status == 200
        assert (body["mode"], body["now_ms"]) == ("frozen", START_MS + 3_000)
        worker_id = (await client.get(f"/status/{job_id}")).json()["workerId"]
        assert body["fired"] == [
            {"at_ms": START_MS + 1_000, "kind": "cold start", "subject": worker_id},
            {"at_ms": START_MS + 3_000, "kind": "mock_delay", "subject": job_id},
        ]
        assert body["fired_total"] == 2
        assert (await client.get(f"/status/{job_id}")).json()["status"] == "COMPLETED"


async def test_advance_names_a_thousand_timers_and_counts_all():
    async with emulated(workers_max=0) as client:
        endpoint = client.emulator.endpoint("ep")
        for _ in range(1_200):
            endpoint.submit({"input": 1, "policy": {"ttl": 10_000}})
        _, body = await advance(client, 10_000)
        assert (len(body["fired"]), body["fired_total"]) == (1_000, 1_200)


async def test_advance_by_nothing_lets_things_settle():
    async with emulated() as client:
        job_id = await client.run()
        _, body = await advance(client, 0)
        assert body["fired"] == []
        assert (await client.get(f"/status/{job_id}")).json()["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"by_ms": -1}', "by_ms: Input should be greater than or equal to 0"),
        (b'{"by_ms": 1.5}', "by_ms: Input should be a valid integer"),
        (b'{"by_ms": "1000"}', "by_ms: Input should be a valid integer"),
        (b'{"by_ms": true}', "by_ms: Input should be a valid integer"),
        (b'{"by_ms": null}', 'give one of "by_ms", "to_next" and "until"'),
        (b'{"by_ms": 1, "to_next": true}', 'give one of "by_ms", "to_next" and "until"'),
        (b'{"by_ms": 1e300}', "by_ms: "),
        (b'{"by_ms": 3153600000001}', "by_ms: Input should be less than or equal to 3153600000000"),
        (b"{}", 'give one of "by_ms", "to_next" and "until"'),
        (b"", "body: Field required"),
        (b"[]", "body: Input should be"),
        (b'{"by_ms": 1, "to": 2}', "to: there is no such key: there are by_ms, to_next, until, max_ms"),
        (b'{"by_ms": 1', "body: not valid JSON"),
    ],
)
async def test_a_bad_advance_is_refused_and_moves_nothing(content, message):
    async with emulated(options=frozen_at_start()) as client:
        status, body = await control(client, "POST", "/clock/advance", content=content)
        assert status == 400
        assert list(body) == ["error"]
        assert list(body["error"]) == ["code", "message", "hint"]
        assert body["error"]["code"] == "invalid_request"
        assert message in body["error"]["message"]
        assert body["error"]["hint"] == "see /_emulator/docs"
        assert client.clock.now_ms() == START_MS


async def test_curls_default_content_type_is_accepted():
    async with emulated() as client:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        response = await client.http.post(
            "/_emulator/clock/advance", content=b'{"by_ms": 1}', headers=headers
        )
        assert response.status_code == 200


async def test_freeze_and_resume():
    async with emulated(options=frozen_at_start()) as client:
        status, body = await control(client, "POST", "/clock/resume")
        assert (status, body["mode"], body["rate"]) == (200, "real", 1.0)
        status, body = await control(client, "POST", "/clock/freeze")
        assert (status, body["mode"], body["rate"]) == (200, "frozen", 0.0)
        assert body["now_ms"] >= START_MS
        assert (await control(client, "GET", "/clock"))[1]["now_ms"] == body["now_ms"]


async def test_resume_gives_a_scaled_clock_its_scale_back():
    async with emulated(options={"clock": Clock(rate=60.0)}) as client:
        assert (await control(client, "GET", "/clock"))[1]["mode"] == "scaled:60"
        assert (await control(client, "POST", "/clock/freeze"))[1]["mode"] == "frozen"
        assert (await control(client, "POST", "/clock/resume"))[1]["mode"] == "scaled:60"


async def test_a_real_clock_can_be_advanced_too():
    async with emulated(options={"clock": Clock()}) as client:
        job_id = await client.run({"mock_delay": 3_600}, policy={"executionTimeout": 7_200_000})
        await client.clock.settle()
        _, body = await advance(client, 3_600_000)
        assert body["mode"] == "real"
        assert {"mock_delay"} == {timer["kind"] for timer in body["fired"]} & {"mock_delay"}
        assert (await client.ended(job_id))["status"] == "COMPLETED"


async def test_time_that_was_frozen_goes_on_where_it_stood():
    async with emulated(options={"clock": Clock()}) as client:
        await control(client, "POST", "/clock/freeze")
        asked = await client.begin("POST", "/runsync", json={"input": {"mock_delay": 0.01}})
        assert not asked.done()
        await control(client, "POST", "/clock/resume")
        assert (await asked).json()["status"] == "COMPLETED"


# Health and readiness


async def test_health_says_version_and_uptime_on_the_clock():
    async with emulated() as client:
        await client.clock.advance(61_500)
        assert await control(client, "GET", "/health") == (
            200,
            {"status": "ok", "version": __version__, "uptime_s": 61.5},
        )


async def test_ready_once_it_runs():
    emulator = Emulator({"ep": None}, clock=VirtualClock())
    async with client_of(emulator) as client:
        assert (await control(client, "GET", "/health"))[0] == 200
        status, body = await control(client, "GET", "/ready")
        assert status == 503
        assert body["ready"] is False
        assert "the emulator is not running" in body["reasons"][0]
        response = await client.post("/run", json={"input": 1})
        assert response.status_code == 503
        assert "the emulator is not running" in response.json()["detail"]
        status, body = await control(client, "POST", "/reset")
        assert (status, body["error"]["code"]) == (503, "not_running")
        async with emulator:
            assert await control(client, "GET", "/ready") == (200, {"ready": True})
        assert (await control(client, "GET", "/ready"))[0] == 503
        assert (await client.get("/health")).status_code == 503


# Reset


async def test_reset_forgets_jobs_counters_and_workers():
    async with emulated(workers_max=2) as client:
        await client.runsync({"mock_error": "no"})
        running = await client.run({"mock_delay": 60})
        await client.clock.settle()
        old_workers = await client.workers()
        queued = [await client.run() for _ in range(3)]
        assert await control(client, "POST", "/reset") == (
            200,
            {"reset": {"ep": {"jobs": 5, "workers": sum(old_workers.values())}}},
        )
        assert set((await client.jobs()).values()) == {0}
        for job_id in (running, *queued):
            assert await client.is_gone(job_id)
        assert (await client.get("/requests")).json()["total"] == 0
        await client.clock.settle()
        assert (await control(client, "GET", "/clock"))[1]["pending"] == 0
        assert (await client.runsync())["status"] == "COMPLETED"


async def test_reset_restarts_the_workers_that_are_always_up():
    async with emulated(workers_min=2) as client:
        await client.clock.settle()
        await control(client, "POST", "/reset")
        await client.clock.settle()
        assert await client.workers() == {"idle": 2}


async def test_reset_answers_whoever_waits_and_tells_no_webhook():
    async with emulated(workers_max=0) as client:
        asked = await client.begin(
            "POST", "/runsync", json={"input": 1, "webhook": "http://127.0.0.1:9/never-called"}
        )
        await control(client, "POST", "/reset")
        assert (await asked).json()["status"] == "CANCELLED"


async def test_reset_keeps_the_time_and_gives_the_clock_its_first_mode_back():
    async with emulated(options=frozen_at_start()) as client:
        await client.clock.advance(5_000)
        await control(client, "POST", "/clock/resume")
        await control(client, "POST", "/reset")
        _, body = await control(client, "GET", "/clock")
        assert body["mode"] == "frozen"
        assert body["now_ms"] >= START_MS + 5_000


async def test_reset_concerns_every_endpoint():
    emulator = Emulator({"a": None, "b": None}, clock=VirtualClock())
    async with emulator, client_of(emulator, "/v2/a") as at_a, client_of(emulator, "/v2/b") as at_b:
        await at_a.runsync()
        _, body = await control(at_a, "POST", "/reset")
        assert body == {"reset": {"a": {"jobs": 1, "workers": 1}, "b": {"jobs": 0, "workers": 0}}}
        assert (await at_b.runsync())["status"] == "COMPLETED"


# Errors and documentation


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/health", 405, "not_allowed"),
        ("GET", "/reset", 405, "not_allowed"),
        ("DELETE", "/clock", 405, "not_allowed"),
    ],
)
async def test_errors_say_what_is_wrong_and_where_to_look(method, path, status, code):
    async with emulated() as client:
        answered, body = await control(client, method, path)
        assert answered == status
        assert body["error"]["code"] == code
        assert body["error"]["message"]
        assert body["error"]["hint"] == "see /_emulator/docs"


async def test_a_wrong_method_names_the_right_one():
    async with emulated() as client:
        assert (await client.http.get("/_emulator/reset")).headers["allow"] == "POST"


async def test_a_page_from_elsewhere_is_refused_in_the_same_form():
    async with emulated() as client:
        response = await client.http.post("/_emulator/reset", headers={"origin": "http://evil.example"})
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "forbidden"
        assert "is from elsewhere" in response.json()["error"]["message"]


async def test_the_openapi_document_has_every_operation():
    async with emulated() as client:
        status, document = await control(client, "GET", "/openapi.json")
        assert status == 200
        paths = document["paths"]
        endpoint = {path.removeprefix("/v2/{endpoint_id}/") for path in paths if path.startswith("/v2/")}
        assert endpoint == {
            "run", "runsync", "status/{job_id}", "status-sync/{job_id}", "stream/{job_id}",
            "cancel/{job_id}", "retry/{job_id}", "purge-queue", "health", "requests", "metrics",
            "openai/{path}",
        }  # fmt: skip
        assert {path.removeprefix("/_emulator/") for path in paths if path.startswith("/_emulator/")} == {
            "clock", "clock/advance", "clock/freeze", "clock/resume", "endpoints",
            "endpoints/{endpoint_id}", "endpoints/{endpoint_id}/charts", "endpoints/{endpoint_id}/inputs",
            "endpoints/{endpoint_id}/stubs", "endpoints/{endpoint_id}/stubs/{number}", "events", "faults",
            "faults/presets", "faults/presets/{name}", "faults/{rule_id}", "health", "jobs", "jobs/export",
            "jobs/list", "jobs/{job_id}", "jobs/{job_id}/logs", "jobs/{job_id}/output",
            "jobs/{job_id}/run-again", "jobs/{job_id}/timeline", "jobs/{job_id}/wait", "journal",
            "journal/count", "journal/find", "journal/wait", "logs", "metrics", "ready", "reset", "s3",
            "sinks", "sinks/{name}", "sinks/{name}/answers", "sinks/{name}/wait", "state/load", "state/save",
            "webhooks", "webhooks/{number}", "webhooks/{number}/redeliver", "workers", "workers/{worker_id}",
            "workers/{worker_id}/logs", "workers/{worker_id}/{action}",
        }  # fmt: skip
        assert set(paths["/v2/{endpoint_id}/status/{job_id}"]) == {"get", "post"}


async def test_the_documentation_page_is_there():
    async with emulated() as client:
        response = await client.http.get("/_emulator/docs")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/html")


async def test_jobs_that_timed_out_are_still_listed():
    async with emulated(options=frozen_at_start(), worker_kind="external") as client:
        lost = await client.run(policy={"ttl": 10_000})
        await client.clock.advance(10_000)
        there = await client.run()
        assert await client.is_gone(lost)
        _, body = await control(client, "GET", "/jobs")
        assert [(job["id"], job["status"]) for job in body["jobs"]] == [
            (there, "IN_QUEUE"),
            (lost, "TIMED_OUT"),
        ]
        assert body["total"] == 2


async def test_an_endpoint_says_what_its_workers_run():
    async with emulated("tests.fixtures.slow_handler:handler") as client:
        view = (await client.http.get("/_emulator/endpoints/ep")).json()
        assert view["handler"] == "tests.fixtures.slow_handler:handler (sync)"
