"""`handlers/echo.py` as an async function."""

from typing import Any

import runpod


async def handler(job: dict[str, Any]) -> Any:
    """Return the job's input."""
    return job["input"]


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
