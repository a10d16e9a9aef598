"""As `long_handlers.py`, by way of the SDK's progress updates."""

import os
import time

import runpod
from long_handlers import note, pieces


def handler(job):
    note(job)
    for number, seconds in enumerate(pieces(job["input"]["seconds"])):
        runpod.serverless.progress_update(job, {"piece": number})
        time.sleep(seconds)
        be_seen(f"{job['input']['log']}.seen.{number}")
    return job["input"]["seconds"]


def be_seen(path):
    """Go on once the client has seen the report: it may be slower than the next one is to come."""
    given_up_at = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < given_up_at:
        time.sleep(0.05)
