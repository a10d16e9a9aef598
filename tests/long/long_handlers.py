"""Handlers that take as long as they are told. Each time one is called it adds a line to a file."""

import asyncio
import os
import time

#: Seconds between two chunks, or two reports of progress.
PIECE_S = 6


def sync(job):
    note(job)
    time.sleep(job["input"]["seconds"])
    return job["input"]["seconds"]


async def asynchronous(job):
    note(job)
    await asyncio.sleep(job["input"]["seconds"])
    return job["input"]["seconds"]


def generator(job):
    note(job)
    for number, seconds in enumerate(pieces(job["input"]["seconds"])):
        time.sleep(seconds)
        yield {"chunk": number}


def note(job):
    """One write, so that lines of several processes do not mix."""
    log = os.open(job["input"]["log"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(log, f"{job['id']}\n".encode())
    os.close(log)


def pieces(seconds):
    """The time cut up into pieces; none is longer than the first."""
    while seconds > 0:
        yield min(PIECE_S, seconds)
        seconds -= PIECE_S
