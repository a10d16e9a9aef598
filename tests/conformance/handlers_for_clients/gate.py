"""A handler that stops half-way until a test lets it go on: no test has to guess how long a job takes.

A job with `{"gate": name}` reports progress and yields "before", then waits at the gate; one that says
`"do": "open"` lets it through to "after", and one that says `"do": "meet"` ends once somebody waits there.
"""

import asyncio
from collections import defaultdict

import runpod

JOBS_AT_ONCE = 10

arrived = defaultdict(asyncio.Event)
opened = defaultdict(asyncio.Event)


async def handler(job):
    name = job["input"]["gate"]
    match job["input"].get("do", "pass"):
        case "pass":
            yield "before"
            runpod.serverless.progress_update(job, "half-way")
            arrived[name].set()
            await opened[name].wait()
            yield "after"
        case "meet":
            await arrived[name].wait()
        case "open":
            opened[name].set()


runpod.serverless.start(
    {
        "handler": handler,
        "return_aggregate_stream": True,
        "concurrency_modifier": lambda current: JOBS_AT_ONCE,
    }
)
