"""Workers whose prestart hooks fail, as the SDK after 1.12 reports it (wire.md 7)."""

import sys

from emulator import Emulator, EndpointConfig
from emulator.clock.clock import clock_of

#: What such a worker does: it takes a job, brings the failure as its result, asks once more, and exits.
WORKER = """
import json, os, sys, urllib.request

def ask(name, body=None):
    url = os.environ[name].replace("$RUNPOD_POD_ID", pod)
    url = url.replace("$ID", pod if body is None else job["id"])
    headers = {"authorization": os.environ["RUNPOD_AI_API_KEY"]}
    request = urllib.request.Request(f"{url}&job_in_progress=0", body, headers)
    return urllib.request.urlopen(request, timeout=1 if name.endswith("JOB") and job else None).read()

pod, job = os.environ["RUNPOD_POD_ID"], None
job = json.loads(ask("RUNPOD_WEBHOOK_GET_JOB"))
error = {"event": "prestart_failed", "error_type": "<class 'OSError'>", "error_message": "no weights",
         "error_traceback": "Traceback: here", "worker_id": pod, "runpod_version": "2.0.0",
         "hook": "load_model", "logs": ["looking for weights"]}
ask("RUNPOD_WEBHOOK_POST_OUTPUT", json.dumps({"error": json.dumps(error)}).encode())
try:
    ask("RUNPOD_WEBHOOK_GET_JOB")
except OSError:
    pass
sys.exit(1)
"""
SAID = "init failed in the hook load_model: OSError: no weights"


def test_its_job_fails_and_the_next_one_is_not_lost_with_it(tmp_path, caplog):
    (tmp_path / "worker.py").write_text(WORKER)
    command = (sys.executable, str(tmp_path / "worker.py"))
    config = EndpointConfig(command=command, worker_kind="process", workers_max=1)
    caplog.set_level("INFO")
    with Emulator({"ep": config}, clock=clock_of("scaled:20")).serve() as client:
        endpoint = client.endpoint("ep")
        jobs = [endpoint.submit({"n": number}) for number in range(3)]
        assert [job.wait(300).status for job in jobs] == ["FAILED"] * 3
        assert [job.retries for job in jobs] == [0] * 3
        text = caplog.text
    assert f"restarting in 1000 ms: {SAID}" in text
    assert f"restarting in 2000 ms: {SAID}" in text
    assert "log: looking for weights" in text
