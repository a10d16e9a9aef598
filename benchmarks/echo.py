"""The handler of both servers: gives back what it got, so that only their own cost is measured."""

from __future__ import annotations

from typing import Any

import runpod  # type: ignore[import-untyped]


def handler(job: dict[str, Any]) -> Any:
    """The job's input, as it came."""
    return job["input"]


runpod.serverless.start({"handler": handler})
