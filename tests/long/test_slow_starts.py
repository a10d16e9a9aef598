"""Worker processes that are there and take no jobs: told of, and replaced. Their patience is real."""

from __future__ import annotations

import textwrap
import time

import pytest

from tests.cli.command import serving

LOG_PATIENCE_S = 300

BLOCKED = """
    import runpod, time
    print("Service not ready yet. Retrying...", flush=True)
    while True:
        time.sleep(1)
    runpod.serverless.start({"handler": lambda job: job["input"]})
"""
HANDLER = 'import runpod\nrunpod.serverless.start({"handler": lambda job: job["input"]})\n'
#: It takes its first job, and none after it, while its process lives on.
ASKS_ONCE = """
    import json, os, time, urllib.request

    def call(url, body=None):
        url = url.replace("$ID", os.environ["RUNPOD_POD_ID"])
        request = urllib.request.Request(url, body, {"Authorization": "x"})
        return urllib.request.urlopen(request).read()

    job = json.loads(call(os.environ["RUNPOD_WEBHOOK_GET_JOB"]))
    done = os.environ["RUNPOD_WEBHOOK_POST_OUTPUT"].replace("$RUNPOD_POD_ID", os.environ["RUNPOD_POD_ID"])
    call(done.replace("$ID", job["id"]), json.dumps({"output": job["input"]}).encode())
    import runpod, time
    time.sleep(100000)
"""


def script(folder, text):
    (folder / "handler.py").write_text(textwrap.dedent(text))
    return "handler.py"


def logged(served, text):
    """Return once the log has a text."""
    deadline = time.monotonic() + LOG_PATIENCE_S
    while text not in served.log:
        assert time.monotonic() < deadline, served.log
        time.sleep(0.1)


def process_of(served):
    """The process id of its only worker; None while it has none."""
    return served.get("/_emulator/workers")["workers"][0]["process_id"]


@pytest.mark.parametrize(
    ("text", "arguments", "last"),
    [
        (BLOCKED, [], "it wrote last: Service not ready yet. Retrying..."),
        (HANDLER, ["--", "--rp_serve_api", "--rp_api_port", "0"], "it wrote last: "),
    ],
    ids=["waits for its own server", "a dev server"],
)
def test_a_script_that_never_asks_for_a_job_is_told_of_and_then_replaced(tmp_path, text, arguments, last):
    options = ["--workers-max", "1", "--clock", "scaled:20", script(tmp_path, text)]
    with serving(tmp_path, *options, *arguments) as served:
        job = served.post("/v2/local/run", {"input": {"n": 1}})
        logged(served, f"it has not asked for a job within 10 s of its start, so jobs wait; {last}")
        first = process_of(served)
        logged(
            served,
            "no worker of 'local' starts: it is unhealthy: it has not asked for a job within the limit",
        )
        while process_of(served) in (None, first):
            time.sleep(0.1)
        assert served.get(f"/v2/local/status/{job['id']}")["status"] == "IN_QUEUE"


def test_a_longer_start_can_be_allowed(tmp_path):
    options = ["--workers-max", "1", "--clock", "scaled:60", script(tmp_path, BLOCKED)]
    with serving(tmp_path, *options, EMULATOR_WORKER_ENV_RUNPOD_INIT_TIMEOUT="36000") as served:
        served.post("/v2/local/run", {"input": {"n": 1}})
        logged(served, "it has not asked for a job within 10 s of its start")
        assert "unhealthy" not in served.log


def test_a_worker_that_is_up_and_asks_no_more_is_replaced(tmp_path):
    options = ["--workers-min", "1", "--workers-max", "1", script(tmp_path, ASKS_ONCE)]
    with serving(tmp_path, *options) as served:
        assert served.post("/v2/local/runsync", {"input": "one"})["output"] == "one"
        second = served.post("/v2/local/run", {"input": "two"})
        logged(served, "it is up and has not asked for a job for 60 s")
        body = served.get(f"/v2/local/status-sync/{second['id']}?wait=90000")
        assert (body["status"], body["output"]) == ("COMPLETED", "two")
