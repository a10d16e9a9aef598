"""A worker that gives back what comes, without the SDK and so without its pause between jobs.

What one of its jobs takes is the way to it and back. Every kind of worker that is a process,
wherever that is, runs it as it is.
"""

from __future__ import annotations

import json
import os
from http.client import HTTPConnection
from urllib.parse import urlsplit


def main() -> None:
    """Ask for jobs over one connection, for as long as there is an emulator."""
    worker_id = os.environ["RUNPOD_POD_ID"]
    take, done = (
        urlsplit(os.environ[name].replace("$RUNPOD_POD_ID", worker_id))
        for name in ("RUNPOD_WEBHOOK_GET_JOB", "RUNPOD_WEBHOOK_POST_OUTPUT")
    )
    headers = {"Authorization": os.environ["RUNPOD_AI_API_KEY"], "Content-Type": "application/json"}
    connection = HTTPConnection(take.netloc)
    take_path = f"{take.path}?{take.query}&job_in_progress=0".replace("$ID", worker_id)
    while True:
        connection.request("GET", take_path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 204:
            continue
        job = json.loads(body)
        path = f"{done.path}?{done.query}&isStream=false".replace("$ID", job["id"])
        connection.request("POST", path, json.dumps({"output": job["input"]}), headers)
        connection.getresponse().read()


if __name__ == "__main__":
    main()
