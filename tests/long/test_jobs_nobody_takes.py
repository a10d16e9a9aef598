"""`runpod-emulator test` gives up on a job that a worker, though it is up, does not ask for."""

from __future__ import annotations

import json

from tests.cli.command import run

#: The handler runs on the SDK's loop: what it leaves to be done there keeps the SDK from asking for a job.
KEEPS_THE_LOOP = """\
import asyncio, time
import runpod

def handler(job):
    if job["input"] == "keep the loop":
        asyncio.get_running_loop().call_later(0.3, time.sleep, 3600)
    return job["input"]

runpod.serverless.start({"handler": handler})
"""


def test_the_test_after_it_gets_another_worker(tmp_path):
    (tmp_path / "handler.py").write_text(KEEPS_THE_LOOP)
    wishes = ["keep the loop", "in vain", "again"]
    (tmp_path / "tests.json").write_text(json.dumps([{"name": wish, "input": wish} for wish in wishes]))
    tested = run(tmp_path, "test", "--json")
    results = {test["name"]: (test["result"], test["why"]) for test in json.loads(tested.stdout)["tests"]}
    assert results == {
        "keep the loop": ("passed", []),
        "in vain": (
            "error", ["the worker is up but has not asked for the job for 60 s; it was replaced"]
        ),
        "again": ("passed", []),
    }  # fmt: skip
    assert tested.returncode == 1
