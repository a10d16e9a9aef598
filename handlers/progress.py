r"""A handler that reports its progress: /status shows the latest report as `output` until the job ends.

Serve it:

    runpod-emulator serve handlers/progress.py

Try it. Submit a job, then ask for its status a few times, with the id from the first answer for JOB_ID:

    curl http://127.0.0.1:8000/v2/local/run -H 'Authorization: Bearer any' \
      -d '{"input": {"steps": 10, "seconds_per_step": 1}}'

    curl http://127.0.0.1:8000/v2/local/status/JOB_ID -H 'Authorization: Bearer any'
"""

import time
from typing import Any

import runpod


def handler(job: dict[str, Any]) -> dict[str, int]:
    """Work through the steps. A report is any JSON value, and replaces the one before."""
    job_input = job["input"]
    steps = job_input["steps"]
    for step in range(1, steps + 1):
        runpod.serverless.progress_update(job, {"step": step, "percent": 100 * step // steps})
        time.sleep(job_input.get("seconds_per_step", 0))
    return {"steps_done": steps}


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
