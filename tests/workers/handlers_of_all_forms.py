"""What the workers of every kind run: one function for each form a handler can have.

A job's input says what to do: `{"do": …}`.
"""

import asyncio
import json
import os
import time
from pathlib import Path

COUNT = 0
PRESENT: list = []
ALL_PRESENT = asyncio.Event()


def _answer(job):
    do = job["input"]["do"]
    if do == "return":
        return json.loads(job["input"]["text"])
    if do == "job":
        return job
    if do == "raise":
        raise ValueError("the reason")
    if do == "nan":
        return {"score": [1.0, float("nan")]}
    if do == "bytes":
        return {"image": b"\x00"}
    if do == "count":
        global COUNT
        COUNT += 1
        return COUNT
    if do == "refresh":
        return {"refresh_worker": True, "count": COUNT + 1}
    if do == "die":
        if not (marker := Path(job["input"]["marker"])).exists():
            marker.touch()
            os._exit(7)
        return "the second time"
    raise AssertionError(do)


def sync(job):
    if job["input"]["do"] == "wait":
        _until(job["input"]["go"])
        return "waited"
    return _answer(job)


async def asynchronous(job):
    if job["input"]["do"] == "wait":
        while not os.path.exists(job["input"]["go"]):
            await asyncio.sleep(0.02)
        return "waited"
    return _answer(job)


async def several(job):
    """Runs beside others of its kind: each waits for as many as its input says."""
    if job["input"]["do"] != "meet":
        return await asynchronous(job)
    PRESENT.append(job["id"])
    if len(PRESENT) == job["input"]["others"]:
        ALL_PRESENT.set()
    await ALL_PRESENT.wait()
    return sorted(PRESENT)


def generator(job):
    for n in range(job["input"]["chunks"]):
        yield {"n": n}
    if job["input"]["do"] == "raise":
        raise ValueError("the reason")
    if job["input"]["do"] == "error":
        yield {"error": "a bad chunk"}
        yield "never sent"


async def async_generator(job):
    for item in generator(job):
        yield item


def _until(path):
    while not os.path.exists(path):
        time.sleep(0.02)
