r"""A handler that streams: each value it yields can be read from /stream while the job runs.

Serve it:

    runpod-emulator serve handlers/streaming.py

Try it. Submit a job, then read its tokens, with the id from the first answer for JOB_ID; every read gives
those that have come since the last one, until the status is COMPLETED:

    curl http://127.0.0.1:8000/v2/local/run -H 'Authorization: Bearer any' \
      -d '{"input": {"prompt": "The quick brown fox", "seconds_per_token": 0.5}}'

    curl http://127.0.0.1:8000/v2/local/stream/JOB_ID -H 'Authorization: Bearer any'

`return_aggregate_stream` also collects what was yielded as the job's output, so that /runsync and /status
have it as well; without it their output is an empty list:

    curl http://127.0.0.1:8000/v2/local/runsync -H 'Authorization: Bearer any' \
      -d '{"input": {"prompt": "The quick brown fox"}}'
"""

import time
from collections.abc import Iterator
from typing import Any

import runpod


def handler(job: dict[str, Any]) -> Iterator[str]:
    """Yield the prompt's words one by one, as a language model yields tokens."""
    job_input = job["input"]
    for token in job_input["prompt"].split():
        time.sleep(job_input.get("seconds_per_token", 0))
        yield token


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
