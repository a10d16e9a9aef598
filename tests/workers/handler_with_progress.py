"""A handler that tells how far it has come."""

import os
import time

import runpod


def handler(job):
    runpod.serverless.progress_update(job, {"step": 1})
    while not os.path.exists(job["input"]["go"]):
        time.sleep(0.02)
    return "end"
