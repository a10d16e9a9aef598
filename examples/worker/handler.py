"""A plain Runpod worker: nothing in it knows whether its jobs come from Runpod or from the emulator."""

from typing import Any

import runpod


def handler(job: dict[str, Any]) -> dict[str, str]:
    """Greet whom the input names."""
    return {"greeting": f"Hello, {job['input']['name']}!"}


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
