r"""A stand-in for any worker: it does what the job's input asks for, so that a client can meet every case.

Serve it:

    runpod-emulator serve handlers/mock_worker.py

Try it:

    curl http://127.0.0.1:8000/v2/local/runsync -H 'Authorization: Bearer any' \
      -d '{"input": {"mock_return": {"images": []}, "mock_logs": ["a line for the log"]}}'

The input's keys are those of Runpod's own mock worker; all are optional:

    mock_logs      a list of lines to log, or of {"level": "info", "message": "..."}
    mock_delay     how many seconds the job takes
    mock_crash     true: the worker's process dies
    mock_error     true: the handler raises; a text: with that message
    mock_external  {"error_job_return": true}: no result of this worker arrives any more
    mock_progress  a list of progress updates, or {"updates": [...], "wait_time": seconds before each}
    mock_return    the output, by default "Hello World!"
    mock_refresh   true: the worker is replaced afterwards

So are its arguments. As a generator it streams the parts of mock_return, with mock_delay before each:

    runpod-emulator serve handlers/mock_worker.py -- --generator --return_aggregate_stream

An inline worker shares the emulator's process, which mock_crash then takes down as well. Without any
handler, `runpod-emulator serve` has a mock worker built in whose crash ends the worker alone.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import runpod


def handler(job: dict[str, Any]) -> Any:
    """Do as the input says: logs, delay, crash, error, progress, output."""
    wishes = begin(job)
    send_progress(job, wishes.get("mock_progress", []))
    output = wishes.get("mock_return", "Hello World!")
    if wishes.get("mock_refresh"):
        return {"refresh_worker": True, "mock_return": output}
    return output


def generator(job: dict[str, Any]) -> Iterator[Any]:
    """Stream the parts of the output."""
    wishes = begin(job)
    for number, part in enumerate(wishes.get("mock_return", ["Hello World!"])):
        if number:
            time.sleep(wishes.get("mock_delay", 0))
        yield part


def begin(job: dict[str, Any]) -> dict[str, Any]:
    """What comes before any output; returns the job's wishes."""
    wishes: dict[str, Any] = job["input"]
    for line in wishes.get("mock_logs", []):
        print(f"{line['level'].upper()} {line['message']}" if isinstance(line, dict) else line, flush=True)
    time.sleep(wishes.get("mock_delay", 0))
    if wishes.get("mock_crash"):
        os._exit(1)
    if error := wishes.get("mock_error"):
        raise RuntimeError(error if isinstance(error, str) else "Mock error")
    if wishes.get("mock_external", {}).get("error_job_return"):
        from runpod.serverless.modules import rp_http

        rp_http.JOB_DONE_URL = "http://127.0.0.1:9/nobody?"
    return wishes


def send_progress(job: dict[str, Any], wanted: list[Any] | dict[str, Any]) -> None:
    """Send the updates, with a pause before each if one is asked for."""
    plan = wanted if isinstance(wanted, dict) else {"updates": wanted}
    for update in plan.get("updates", []):
        time.sleep(plan.get("wait_time", 0))
        runpod.serverless.progress_update(job, update)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--generator", action="store_true", help="stream the parts of mock_return")
    parser.add_argument("--return_aggregate_stream", action="store_true", help="they are the output too")
    # The rest is the SDK's.
    options, sys.argv[1:] = parser.parse_known_args()
    if options.generator:
        runpod.serverless.start(
            {"handler": generator, "return_aggregate_stream": options.return_aggregate_stream}
        )
    else:
        runpod.serverless.start({"handler": handler})
