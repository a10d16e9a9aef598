"""The smallest handler: the output of a job is its input.

Serve it:

    runpod-emulator serve handlers/echo.py

Try it:

    curl http://127.0.0.1:8000/v2/local/runsync -H 'Authorization: Bearer any' -d '{"input": {"name": "Ada"}}'
"""

from typing import Any

import runpod


def handler(job: dict[str, Any]) -> Any:
    """Return the job's input. `job` also has the `id`, and whatever else was submitted."""
    return job["input"]


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
