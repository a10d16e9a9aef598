"""What a client sees of each sample in handlers/."""

import asyncio
import json
import os
import shlex
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anyio
import httpx
import pytest

from emulator import Emulator, EndpointConfig, VirtualClock
from emulator.workers.loading import load_handler
from tests.handlers.curl import HANDLERS, SAMPLES, commands, curl_commands, parse_curl
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(sample, *, endpoint_id="ep", clock=None, s3=False, **settings):
    """An emulator with the sample, and a client of its endpoint."""
    handler = load_handler(HANDLERS / f"{sample}.py")
    endpoint = EndpointConfig(handler=handler, **settings)
    with anyio.fail_after(PATIENCE_S):
        async with (
            Emulator({endpoint_id: endpoint}, clock=clock, s3=s3) as emulator,
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app=emulator.app),
                base_url=f"http://testserver/v2/{endpoint_id}",
                headers={"Authorization": "Bearer x"},
            ) as client,
        ):
            yield Served(emulator, client, handler.function.__globals__)


class Served:
    def __init__(self, emulator, client, module):
        self.emulator = emulator
        self.client = client
        #: The names in the sample's module.
        self.module = module

    async def answer(self, path, body=None):
        method = "GET" if body is None else "POST"
        response = await self.client.request(method, path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    async def run_sync(self, **job_input):
        return await self.answer("/runsync", {"input": job_input})

    async def submit(self, **job_input):
        return (await self.answer("/run", {"input": job_input}))["id"]


class Gate:
    """Stands in for the sample's `time`: what would sleep waits for the test instead."""

    def __init__(self):
        self._asleep, self._opened = threading.Semaphore(0), threading.Semaphore(0)

    def sleep(self, _seconds):
        self._asleep.release()
        assert self._opened.acquire(timeout=PATIENCE_S)

    async def reached(self):
        """Return once the handler sleeps, and the emulator has heard what it said before."""
        assert await anyio.to_thread.run_sync(partial(self._asleep.acquire, timeout=PATIENCE_S))

    def open(self):
        self._opened.release()


# Each sample


@pytest.mark.parametrize("given", [{"name": "Ada"}, [1, "two"], "text", 2**70, {"é": None}])
async def test_echo_returns_the_input(given):
    async with served("echo") as ep:
        ended = await ep.answer("/runsync", {"input": given})
        assert ended["status"] == "COMPLETED"
        assert ended["output"] == given


async def test_streaming_gives_each_token_to_the_stream_and_all_to_the_status():
    async with served("streaming") as ep:
        job_id = await ep.submit(prompt="the quick brown fox")
        tokens, status = [], "IN_QUEUE"
        while status != "COMPLETED":
            read = await ep.answer(f"/stream/{job_id}")
            tokens += [chunk["output"] for chunk in read["stream"]]
            status = read["status"]
        assert tokens == ["the", "quick", "brown", "fox"]
        assert (await ep.answer(f"/status/{job_id}"))["output"] == tokens


async def test_streaming_can_be_read_while_it_runs():
    async with served("streaming") as ep:
        gate = ep.module["time"] = Gate()
        job_id = await ep.submit(prompt="one two")
        await gate.reached()
        gate.open()
        await gate.reached()
        first = await ep.answer(f"/stream/{job_id}")
        assert first == {"status": "IN_PROGRESS", "stream": [{"output": "one"}]}
        gate.open()
        assert (await ep.answer(f"/status-sync/{job_id}"))["output"] == ["one", "two"]


async def test_asynchronous_runs_jobs_at_the_same_time_on_one_worker():
    async with served("asynchronous", workers_max=1) as ep:
        all_three = asyncio.Barrier(3)
        ep.module["asyncio"] = SimpleNamespace(sleep=lambda _: all_three.wait())
        job_ids = [await ep.submit(question=f"is it {n}?") for n in range(3)]
        ended = [await ep.answer(f"/status-sync/{job_id}") for job_id in job_ids]
        assert [job["output"] for job in ended] == [{"answer": f"IS IT {n}?"} for n in range(3)]
        assert len({job["workerId"] for job in ended}) == 1


async def test_progress_shows_in_the_status_until_the_job_ends():
    async with served("progress") as ep:
        gate = ep.module["time"] = Gate()
        job_id = await ep.submit(steps=2)
        for report in ({"step": 1, "percent": 50}, {"step": 2, "percent": 100}):
            await gate.reached()
            running = await ep.answer(f"/status/{job_id}")
            assert (running["status"], running["output"]) == ("IN_PROGRESS", report)
            gate.open()
        ended = await ep.answer(f"/status-sync/{job_id}")
        assert (ended["status"], ended["output"]) == ("COMPLETED", {"steps_done": 2})


async def test_failing_by_an_exception():
    async with served("failing") as ep:
        ended = await ep.run_sync(how="raise")
        assert ended["status"] == "FAILED"
        error = json.loads(ended["error"])
        assert error["error_type"] == "<class 'ValueError'>"
        assert error["error_message"] == "the prompt is too long"
        assert "in handler" in error["error_traceback"]


async def test_failing_by_a_returned_error():
    async with served("failing") as ep:
        ended = await ep.run_sync(how="return")
        assert ended["status"] == "FAILED"
        assert ended["error"] == "the prompt is too long"
        assert ended["output"] == {"longest_allowed": 2048}


async def test_failing_with_a_fresh_worker_for_the_next_job():
    async with served("failing", workers_max=1) as ep:
        same, kept = await ep.run_sync(how="return"), await ep.run_sync(how="return")
        assert same["workerId"] == kept["workerId"]
        last = await ep.run_sync(how="refresh")
        assert (last["status"], last["error"]) == ("FAILED", "the GPU is out of memory")
        assert (await ep.run_sync(how="return"))["workerId"] != last["workerId"]


async def test_failing_says_what_it_could_have_been_asked():
    async with served("failing") as ep:
        assert "raise, return or refresh" in (await ep.run_sync(how="loudly"))["error"]


@pytest.mark.parametrize(
    ("wishes", "output"),
    [
        ({"mock_delay": 0}, "Hello World!"),
        ({"mock_return": None}, None),
        ({"mock_return": [1, {"a": 2}]}, [1, {"a": 2}]),
        ({"mock_refresh": True, "mock_return": "bye"}, {"mock_return": "bye"}),
    ],
)
async def test_mock_worker_returns_what_it_is_told(wishes, output):
    async with served("mock_worker") as ep:
        ended = await ep.run_sync(**wishes)
        assert ended["status"] == "COMPLETED"
        assert ended.get("output") == output


@pytest.mark.parametrize(("wish", "message"), [(True, "Mock error"), ("no GPU", "no GPU")])
async def test_mock_worker_raises(wish, message):
    async with served("mock_worker") as ep:
        ended = await ep.run_sync(mock_error=wish)
        assert ended["status"] == "FAILED"
        assert json.loads(ended["error"])["error_message"] == message


async def test_mock_worker_takes_as_long_as_it_is_told():
    async with served("mock_worker") as ep:
        slept = []
        ep.module["time"] = SimpleNamespace(sleep=slept.append)
        await ep.run_sync(mock_delay=2.5)
        assert slept == [2.5]


async def test_mock_worker_logs(capfd):
    async with served("mock_worker") as ep:
        await ep.run_sync(mock_logs=["plain", {"level": "info", "message": "with a level"}])
    assert capfd.readouterr().out == "plain\nINFO with a level\n"


@pytest.mark.parametrize("wish", [["half", "done"], {"updates": ["half", "done"], "wait_time": 1}])
async def test_mock_worker_reports_progress(wish):
    async with served("mock_worker") as ep:
        gate = ep.module["time"] = Gate()
        job_id = await ep.submit(mock_progress=wish)
        shown = []
        for _ in ("mock_delay", "before half", "before done"):
            await gate.reached()
            shown.append((await ep.answer(f"/status/{job_id}")).get("output"))
            gate.open()
        assert shown == [None, None, "half"]
        assert (await ep.answer(f"/status-sync/{job_id}"))["output"] == "Hello World!"


async def test_mock_worker_crashes_and_its_job_is_tried_on_another_worker_once():
    async with served("mock_worker", workers_max=1, clock=VirtualClock()) as ep:
        exits = []

        def die(code):
            exits.append(code)
            raise SystemExit(code)

        ep.module["os"] = SimpleNamespace(_exit=die)
        job_id = await ep.submit(mock_crash=True)
        while (ended := await ep.answer(f"/status/{job_id}"))["status"] != "FAILED":
            # By little: the handler's thread may need longer than an advance waits for it.
            await ep.emulator.clock.advance(100)
        assert exits == [1, 1]
        assert (ended["status"], ended["retries"]) == ("FAILED", 1)
        assert ended["error"] == "job timed out after 1 retries"


# Their docstrings


@pytest.mark.parametrize("sample", SAMPLES)
def test_docstring_tells_how_to_serve_it(sample):
    serve = next(command for command in commands(sample) if command.startswith("runpod-emulator "))
    assert shlex.split(serve)[1:3] == ["serve", f"handlers/{sample}"]


@pytest.mark.parametrize("sample", SAMPLES)
async def test_curl_lines_of_the_docstring_work(sample):
    """Each is sent as curl would, in order, with the latest job's id for JOB_ID."""
    lines = curl_commands(sample)
    assert lines
    s3 = f"serve handlers/{sample} --s3" in "\n".join(commands(sample))
    async with served(Path(sample).stem, endpoint_id="local", s3=s3) as ep:
        # Some take a while, for people to watch.
        ep.module["time"] = SimpleNamespace(sleep=lambda _: None)
        ep.module["asyncio"] = SimpleNamespace(sleep=lambda _: anyio.lowlevel.checkpoint())
        job_id = ""
        for line in lines:
            request = parse_curl(line.replace("JOB_ID", job_id))
            assert request.url.startswith("http://127.0.0.1:8000/v2/local/")
            response = await ep.client.request(
                request.method, request.url, headers=request.headers, content=request.body
            )
            assert response.status_code == 200, (line, response.text)
            job_id = response.json().get("id", job_id).removeprefix("chatcmpl-")
        ended = await ep.answer(f"/status-sync/{job_id}")
        assert ended["status"] == ("FAILED" if sample == "failing.py" else "COMPLETED")


# With the SDK itself

RUN_WITH_THE_SDK = """
import json, pathlib, runpy, sys

jobs, result = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
exit_codes = {}
for sample, job in jobs.items():
    sys.argv = [sample, "--test_input", json.dumps(job)]
    try:
        runpy.run_path(f"handlers/{sample}", run_name="__main__")
    except SystemExit as exit:
        exit_codes[sample] = exit.code
result.write_text(json.dumps(exit_codes))
"""


def test_the_sdk_runs_them_unmodified(tmp_path):
    """The SDK's own local test takes each of them, and ends with 1 for a job that FAILED."""
    inputs = {
        "asynchronous.py": {"question": "why?"},
        "echo.py": {"name": "Ada"},
        "failing.py": {"how": "return"},
        "mock_worker.py": {"mock_refresh": True},
        "openai_chat.py": {"prompt": "one two"},
        "progress.py": {"steps": 1},
        "s3_upload.py": {"name": "x", "text": "Hello"},
        "streaming.py": {"prompt": "one two"},
    }
    assert list(inputs) == SAMPLES
    jobs = json.dumps({sample: {"input": job_input} for sample, job_input in inputs.items()})
    result = tmp_path / "exit_codes.json"
    run = subprocess.run(
        [sys.executable, "-c", RUN_WITH_THE_SDK, jobs, result],
        cwd=HANDLERS.parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("RUNPOD_")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    # One has nowhere to upload to.
    fails = {"failing.py", "s3_upload.py"}
    assert json.loads(result.read_text()) == {sample: int(sample in fails) for sample in inputs}
