r"""A stand-in for any worker: it does what the job's input asks for, so that a client can meet every case.

Serve it:

    runpod-emulator serve handlers/mock_worker.py

Try it:

    curl http://127.0.0.1:8000/v2/local/runsync -H 'Authorization: Bearer any' \
      -d '{"input": {"mock_return": {"images": []}, "mock_logs": ["a line for the log"]}}'

The input's keys are those of Runpod's own mock worker; all are optional:

    mock_return    the output, by default "Hello World!"
    mock_delay     how many seconds the job takes
    mock_progress  a list of progress updates, or {"updates": [...], "wait_time": seconds before each}
    mock_logs      a list of lines to log, or of {"level": "info", "message": "..."}
    mock_error     true: the handler raises; a text: with that message
    mock_crash     true: the worker's process dies
    mock_refresh   true: the worker is replaced afterwards

An inline worker shares the emulator's process, which mock_crash then takes down as well. Without any
handler, `runpod-emulator serve` has a mock worker built in whose crash ends the worker alone.
"""

import os
import time
from typing import Any

import runpod


def handler(job: dict[str, Any]) -> Any:
    """Do as the input says, in the order: logs, progress, delay, crash, error, output."""
    wishes = job["input"]
    for line in wishes.get("mock_logs", []):
        print(f"{line['level'].upper()} {line['message']}" if isinstance(line, dict) else line, flush=True)
    send_progress(job, wishes.get("mock_progress", []))
    time.sleep(wishes.get("mock_delay", 0))
    if wishes.get("mock_crash"):
        os._exit(1)
    if error := wishes.get("mock_error"):
        raise RuntimeError(error if isinstance(error, str) else "Mock error")
    output = wishes.get("mock_return", "Hello World!")
    if wishes.get("mock_refresh"):
        return {"refresh_worker": True, "mock_return": output}
    return output


def send_progress(job: dict[str, Any], wanted: list[Any] | dict[str, Any]) -> None:
    """Send the updates, with a pause before each if one is asked for."""
    plan = wanted if isinstance(wanted, dict) else {"updates": wanted}
    for update in plan.get("updates", []):
        time.sleep(plan.get("wait_time", 0))
        runpod.serverless.progress_update(job, update)


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
