"""Process workers as the control API shows them: what they are, what they write, what becomes of them."""

import asyncio
import json
import logging
import os
import sys

import httpx
import pytest

from emulator import Emulator, EndpointConfig, HandlerError, VirtualClock
from tests.api.client import KEY, emulated, secret_of, served
from tests.api.log_lines import log_lines
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio

HANDLER = """\
import os, sys

def talking(job):
    print("about", job["input"])
    print("a warning", file=sys.stderr)
    return os.environ["RUNPOD_POD_ID"]

def environment(job):
    return {name: os.environ.get(name) for name in job["input"]}

def arguments(job):
    return [sys.argv[1:], os.getcwd(), sys.path[0], __name__]

def dying(job):
    print("last words", file=sys.stderr)
    os._exit(7)

async def waiting(job):
    import asyncio
    print("waiting")
    await asyncio.Event().wait()
"""


WAITS_FOR_A_FILE = """
def until(job):
    while not os.path.exists(job["input"]):
        pass
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLER)
    return tmp_path


def processes(project, function, **config):
    return served(f"{project}/handlers.py:{function}", worker_kind="process", **config)


async def control(client, path, **options):
    answer = await client.http.get(f"/_emulator{path}", **options)
    return answer.status_code, answer.json()


async def test_a_worker_of_a_function_asks_for_a_job_only_where_none_waits(project):
    with (project / "handlers.py").open("a") as code:
        code.write(WAITS_FOR_A_FILE)
    go = project / "go"
    async with processes(project, "until", workers_max=1) as client:
        ids = [await client.run(str(go)) for _ in range(5)]
        go.touch()
        ended = [(await client.get(f"/status-sync/{job_id}")).json() for job_id in ids]
        assert {body["status"] for body in ended} == {"COMPLETED"}
        assert len({body["workerId"] for body in ended}) == 1
        _, journal = await control(client, "/journal?kind=worker")
        calls = [(entry["operation"], entry["status"]) for entry in journal["entries"]]
        assert calls.count(("job-take", 200)) == 1
        assert calls.count(("job-done", 200)) == 5


async def test_a_worker_is_shown_with_its_process(project):
    async with processes(project, "talking", workers_min=1, workers_max=1) as client:
        body = await client.runsync("one")
        _, shown = await control(client, "/workers")
        [worker] = shown["workers"]
        assert worker.pop("since_ms") <= client.clock.now_ms()
        process_id = worker.pop("process_id")
        assert worker == {
            "id": body["workerId"], "endpoint": "ep", "kind": "process", "state": "idle", "reason": "ready",
            "jobs": [], "crashes": 0, "paused": None, "memory_bytes": None, "cpu_s": None,
        }  # fmt: skip
        assert body["output"] == body["workerId"]
        _, measured = await control(client, "/workers?usage=true")
        assert measured["workers"][0]["memory_bytes"] > 1_000_000
        os.kill(process_id, 0)
        assert (await control(client, f"/workers/{body['workerId']}"))[1]["process_id"] == process_id
        status, error = await control(client, "/workers/nobody")
        assert (status, error["error"]["message"]) == (404, "there is no worker 'nobody'")


async def test_inline_and_external_workers_are_shown_too():
    async with emulated(lambda job: 1) as client:
        await client.runsync()
        await client.begin("GET", "/job-take/elsewhere?job_in_progress=0")
        _, shown = await control(client, "/workers")
        kinds = {worker["kind"]: worker["process_id"] for worker in shown["workers"]}
        assert kinds == {"inline": None, "external": None}


async def test_what_it_writes_is_kept_by_worker_and_by_job(project, caplog):
    caplog.set_level(logging.INFO, "emulator")
    async with processes(project, "talking") as client:
        first, second = [await client.runsync(name) for name in ("one", "two")]
        # The second job's result came after the first one's output had been read.
        _, kept = await control(client, f"/jobs/{first['id']}/logs")
        assert [(line["stream"], line["text"]) for line in kept["lines"] if line["stream"] == "stdout"] == [
            ("stdout", "about one")
        ]
        assert {line["worker_id"] for line in kept["lines"]} == {first["workerId"]}
        _, kept = await control(client, f"/workers/{second['workerId']}/logs")
        texts = [line["text"] for line in kept["lines"]]
        assert texts.count("a warning") >= 1
        assert "about one" in texts
        numbers = [line["number"] for line in kept["lines"]]
        assert numbers == sorted(numbers)
        _, rest = await control(client, f"/workers/{second['workerId']}/logs?after={numbers[-1]}")
        assert rest["lines"] == []
        assert f"ep worker {first['workerId']} job {first['id']} │ about one" in caplog.text
        for path in ("/workers/nobody/logs", "/jobs/nothing/logs"):
            assert (await control(client, path))[0] == 404


async def test_output_is_followed_until_the_job_has_ended(project):
    async with processes(project, "waiting") as client:
        job_id = await client.run()
        url = f"/_emulator/jobs/{job_id}/logs?follow=true"
        async with client.http.stream("GET", url) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.aiter_lines()
            number, data = [await anext(lines) for _ in range(2)]
            if number.startswith("data:"):
                number, data = data, number
            event = json.loads(data.removeprefix("data:"))
            assert (event["text"], event["job_id"]) == ("waiting", job_id)
            assert number.removeprefix("id:").strip() == str(event["number"])
            await client.post(f"/cancel/{job_id}")
            assert [line async for line in lines if line] == []
        seen = {"last-event-id": str(event["number"])}
        assert (await client.http.get(url, headers=seen)).text == ""


async def test_a_worker_is_followed_until_it_is_gone(project):
    async with processes(project, "talking", idle_timeout_s=2) as client:
        body = await client.runsync("one")
        following = asyncio.ensure_future(
            client.http.get(f"/_emulator/workers/{body['workerId']}/logs?follow=1")
        )
        while not following.done():
            # It goes by itself once its idle timeout is over.
            await client.clock.advance(500)
        assert "about one" in (await following).text


async def test_followers_do_not_hold_up_the_end(project):
    handler = EndpointConfig(handler=f"{project}/handlers.py:talking", worker_kind="process")
    async with (
        httpx.AsyncClient(headers=KEY, trust_env=False, timeout=PATIENCE_S) as http,
        Emulator({"ep": handler}) as emulator,
    ):
        async with emulator.serve() as url:
            body = (await http.post(f"{url}/v2/ep/runsync", json={"input": 1})).json()
            following = http.build_request("GET", f"{url}/_emulator/workers/{body['workerId']}/logs?follow=1")
            answer = await http.send(following, stream=True)
        assert b"about 1" in await answer.aread()


async def test_a_worker_that_dies_is_told_of_with_its_exit_code_and_last_words(project, caplog):
    async with processes(project, "dying", options={"clock": VirtualClock()}) as client:
        job_id = await client.run()
        while (await client.workers()) != {"unhealthy": 1}:
            await client.clock.settle()
        _, shown = await control(client, "/workers")
        [worker] = shown["workers"]
        assert worker["reason"] == (
            "restarting in 1000 ms: its process ended with exit code 7; it wrote: last words"
        )
        assert (await client.status(job_id))["status"] == "IN_QUEUE"
        while (await client.status(job_id))["status"] != "FAILED":
            await client.clock.advance(1_000)
        body = await client.status(job_id)
        assert (body["error"], body["retries"]) == ("job timed out after 1 retries", 1)
        assert "requeued: its process ended with exit code 7; it wrote: last words" in caplog.text
        assert "lost for the second time: its process ended with exit code 7" in caplog.text


async def test_a_worker_has_the_variables_of_production_and_those_it_is_given(project, monkeypatch):
    monkeypatch.setenv("EMULATOR_PORT", "1")
    monkeypatch.setenv("MINE", "inherited")
    given = {"MODEL": "tiny", "RUNPOD_LOG_LEVEL": "DEBUG"}
    async with processes(project, "environment", worker_env=given) as client:
        names = [
            "RUNPOD_ENDPOINT_ID", "RUNPOD_POD_ID", "RUNPOD_POD_HOSTNAME", "RUNPOD_AI_API_KEY",
            "RUNPOD_WEBHOOK_GET_JOB", "RUNPOD_WEBHOOK_PING", "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS",
            "RUNPOD_SKIP_GPU_CHECK", "MODEL", "RUNPOD_LOG_LEVEL", "MINE", "EMULATOR_PORT",
        ]  # fmt: skip
        body = await client.runsync(names)
        found = body["output"]
        assert found.pop("RUNPOD_POD_ID") == found.pop("RUNPOD_POD_HOSTNAME") == body["workerId"]
        base = f"{client.emulator.url}/v2/ep"
        assert found.pop("RUNPOD_WEBHOOK_GET_JOB").startswith(f"{base}/job-take/$ID?")
        assert found.pop("RUNPOD_WEBHOOK_PING").startswith(f"{base}/ping/$RUNPOD_POD_ID?")
        assert found == {
            "RUNPOD_ENDPOINT_ID": "ep", "RUNPOD_AI_API_KEY": "local",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true", "RUNPOD_SKIP_GPU_CHECK": "true",
            "MODEL": "tiny", "RUNPOD_LOG_LEVEL": "DEBUG", "MINE": "inherited", "EMULATOR_PORT": None,
        }  # fmt: skip


async def test_the_sdks_own_checks_can_be_left_on(project):
    async with processes(project, "environment", system_checks=True) as client:
        found = (await client.runsync(["RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "RUNPOD_SKIP_GPU_CHECK"]))["output"]
        assert set(found.values()) == {None}


async def test_a_function_runs_where_the_emulator_does_with_its_arguments(project, tmp_path_factory):
    async with processes(project, "arguments", worker_args=("--model", "tiny")) as client:
        assert (await client.runsync())["output"] == [
            ["--model", "tiny"], os.getcwd(), str(project), "handlers"
        ]  # fmt: skip
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    async with processes(project, "arguments", workdir=elsewhere) as client:
        assert (await client.runsync())["output"] == [[], str(elsewhere), str(project), "handlers"]


async def test_a_module_runs_where_the_emulator_does(project, monkeypatch):
    async with served("handlers:arguments", worker_kind="process", workdir=str(project)) as client:
        assert (await client.runsync())["output"] == [[], str(project), str(project), "handlers"]
    monkeypatch.chdir(project)
    async with served("handlers:arguments", worker_kind="process") as client:
        assert (await client.runsync())["output"] == [[], str(project), str(project), "handlers"]


async def test_inline_workers_have_no_folder_of_their_own(project, monkeypatch):
    emulator = Emulator({"ep": EndpointConfig(handler=lambda job: 1, workdir=project)})
    with pytest.raises(HandlerError, match="inline workers run in the emulator's own folder"):
        await emulator.start()
    monkeypatch.chdir(project)
    async with served(lambda job: os.getcwd(), workdir=project) as client:
        assert (await client.runsync())["output"] == str(project)


async def test_a_worker_that_was_started_here_may_send_another_key(project):
    """A key in the developer's own SDK configuration beats the one it was given (wire.md 7)."""
    given = {"RUNPOD_AI_API_KEY": "the-developers-own"}
    options = {"api_keys": ["right"]}
    async with processes(project, "talking", worker_env=given, options=options) as client:
        key = {"authorization": "right"}
        body = (await client.post("/runsync", json={"input": 1}, headers=key)).json()
        assert body["status"] == "COMPLETED"


async def test_saved_code_takes_over_and_running_jobs_end_on_the_old(project):
    async with processes(project, "talking", workers_max=1) as client:
        before = await client.runsync("one")
        (project / "handlers.py").write_text("def talking(job):\n    return 'new code'\n")
        await client.emulator.reload("ep")
        while before["workerId"] in {w["id"] for w in (await control(client, "/workers"))[1]["workers"]}:
            await client.clock.settle()
        assert (await client.runsync("two"))["output"] == "new code"


async def test_a_worker_that_is_leaving_is_not_hurried_and_goes_when_its_job_is_done(project):
    """The SDK asks again at once after a 400: a worker with several jobs at a time would spin."""
    (project / "handlers.py").write_text(HANDLER + WAITS_FOR_A_FILE)
    options = {"clock": VirtualClock()}
    async with processes(project, "until", workers_max=1, options=options) as client:
        job_id = await client.run(str(project / "go"))
        while (await client.status(job_id))["status"] != "IN_PROGRESS":
            await client.clock.settle()
        worker_id = (await client.status(job_id))["workerId"]
        await client.emulator.reload("ep")
        while len((await control(client, "/workers"))[1]["workers"]) < 2:
            await client.clock.settle()
        while (await client.workers()).get("initializing"):
            await client.clock.settle()
        secret = secret_of(client, worker_id)
        asking = await client.begin("GET", f"/job-take/{worker_id}?secret={secret}&job_in_progress=1")
        await client.clock.advance(500)
        assert not asking.done()
        (project / "go").touch()
        assert (await client.ended(job_id))["workerId"] == worker_id
        assert (await asking).status_code == 400
        assert worker_id not in {worker["id"] for worker in (await control(client, "/workers"))[1]["workers"]}


async def test_code_that_is_not_python_is_refused_and_the_old_goes_on(project):
    async with processes(project, "talking", workers_max=1) as client:
        before = await client.runsync("one")
        (project / "handlers.py").write_text("def talking(job:\n")
        with pytest.raises(HandlerError, match="was never closed"):
            await client.emulator.reload("ep")
        assert (await client.runsync("two"))["workerId"] == before["workerId"]


async def test_inline_code_is_taken_up_with_what_it_imports(tmp_path):
    (tmp_path / "neighbour_of_mine.py").write_text("ANSWER = 1\n")
    (tmp_path / "own.py").write_text(
        "import neighbour_of_mine\ndef handler(job):\n    return neighbour_of_mine.ANSWER\n"
    )
    async with emulated(f"{tmp_path}/own.py:handler", workers_max=1) as client:
        assert (await client.runsync())["output"] == 1
        # Of the same length and time of change: only its content is new.
        (tmp_path / "neighbour_of_mine.py").write_text("ANSWER = 1 + 1\n")
        await client.emulator.reload("ep")
        await client.clock.settle()
        assert (await client.runsync())["output"] == 2


async def test_a_parked_process_answers_at_once(project):
    options = {"clock": VirtualClock()}
    async with processes(project, "talking", flashboot=True, idle_timeout_s=1, options=options) as client:
        first = await client.runsync("one")
        await client.clock.advance(1_000)
        assert await client.workers() == {}
        second = await client.runsync("two")
        assert (second["workerId"], second["delayTime"]) == (first["workerId"], 0)


async def test_a_callable_cannot_run_in_another_process():
    emulator = Emulator({"ep": EndpointConfig(handler=lambda job: 1, worker_kind="process")})
    with pytest.raises(HandlerError, match="cannot be run in a process of its own: name it"):
        await emulator.start()


async def test_processes_need_a_server_to_reach(project):
    async with emulated(f"{project}/handlers.py:talking", worker_kind="process") as client:
        answer = await client.post("/run", json={"input": 1})
        assert answer.status_code == 503
        assert "use `async with emulator.serve()`" in answer.json()["detail"]


async def test_an_interpreter_that_does_not_start_is_named(project):
    no_python = project / "python"
    no_python.write_text("#!/no/such/interpreter\n")
    no_python.chmod(0o755)
    async with processes(project, "talking", python=str(no_python), workers_max=1) as client:
        await client.run()
        while (await client.workers()) != {"unhealthy": 1}:
            await client.clock.settle()
        [worker] = (await control(client, "/workers"))[1]["workers"]
        assert f"{no_python} cannot be started: " in worker["reason"]


async def test_a_function_that_is_not_there_is_named_before_anything_starts(project):
    emulator = Emulator(
        {
            "ep": EndpointConfig(
                handler=f"{project}/handlers.py:other", worker_kind="process", python=sys.executable
            )
        }
    )
    with pytest.raises(HandlerError, match="there is no other in it; it defines: arguments, dying"):
        await emulator.start()


async def test_a_worker_that_starts_again_is_told_and_the_endpoint_is_ready(project):
    (project / "needs.py").write_text("import late_neighbour\ndef handler(job):\n    return 1\n")
    with log_lines() as log:
        async with served(f"{project}/needs.py:handler", worker_kind="process") as client:
            job_id = await client.run()
            await log.logged("no worker of 'ep' starts: ModuleNotFoundError")
            status, body = await control(client, "/ready")
            assert (status, body["ready"]) == (503, False)
            assert "No module named 'late_neighbour'" in body["reasons"][0]
            (project / "late_neighbour.py").touch()
            await client.clock.advance(60_000)
            assert (await client.ended(job_id))["status"] == "COMPLETED"
            assert "workers of 'ep' start again" in log.lines
            assert await control(client, "/ready") == (200, {"ready": True})
            assert (await control(client, f"/jobs/{job_id}"))[1]["waiting_for"] is None
