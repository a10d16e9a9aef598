r"""An async handler: one worker runs many jobs at once, for work that is mostly waiting.

Serve it, with a single worker:

    runpod-emulator serve handlers/asynchronous.py --workers-max 1

Try it. Submit a few of these: each takes two seconds, and all of them together take hardly longer:

    curl http://127.0.0.1:8000/v2/local/run -H 'Authorization: Bearer any' \
      -d '{"input": {"question": "how are you?", "seconds": 2}}'

    curl http://127.0.0.1:8000/v2/local/status-sync/JOB_ID -H 'Authorization: Bearer any'
"""

import asyncio
from typing import Any

import runpod

JOBS_AT_ONCE = 10


async def handler(job: dict[str, Any]) -> dict[str, str]:
    """Answer a question; the worker's other jobs go on while this one awaits."""
    job_input = job["input"]
    answer = await ask_model(job_input["question"], job_input.get("seconds", 0))
    return {"answer": answer}


async def ask_model(question: str, seconds: float) -> str:
    """Stand in for what a real handler awaits: an inference server, a database, another API."""
    await asyncio.sleep(seconds)
    return question.upper()


def concurrency_modifier(current: int) -> int:
    """Say how many jobs the worker may run at once; called with the present number before it takes more.

    This one never changes its mind. Another might go up while the GPU has memory left, and down again.
    """
    return JOBS_AT_ONCE


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "concurrency_modifier": concurrency_modifier})
