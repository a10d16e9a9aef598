r"""Three ways to fail. Each ends the job as FAILED, which to the client is still an answer with HTTP 200.

Serve it:

    runpod-emulator serve handlers/failing.py

Try it. An exception nobody catches: `error` is a JSON text with its type, message and traceback:

    curl http://127.0.0.1:8000/v2/local/runsync -H 'Authorization: Bearer any' \
      -d '{"input": {"how": "raise"}}'

A returned `error`, for what the client did wrong or can put right: `error` is just that text, and what
else is returned is the `output`:

    curl http://127.0.0.1:8000/v2/local/runsync -H 'Authorization: Bearer any' \
      -d '{"input": {"how": "return"}}'

The same with `refresh_worker`, for when the worker itself is no longer fit to run jobs: a fresh one takes
its place, as the next job's `workerId` shows:

    curl http://127.0.0.1:8000/v2/local/runsync -H 'Authorization: Bearer any' \
      -d '{"input": {"how": "refresh"}}'

A failed job is not tried again by itself; `POST /retry/JOB_ID` does that.
"""

from typing import Any

import runpod


def handler(job: dict[str, Any]) -> dict[str, Any]:
    """Fail as the input asks for."""
    match job["input"]["how"]:
        case "raise":
            raise ValueError("the prompt is too long")
        case "return":
            return {"error": "the prompt is too long", "longest_allowed": 2048}
        case "refresh":
            return {"error": "the GPU is out of memory", "refresh_worker": True}
        case other:
            return {"error": f"how must be raise, return or refresh, not {other!r}"}


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
