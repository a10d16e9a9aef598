"""What handlers do that depends on the loop and the thread they are called in.

A job's input says what to do: `{"do": …}`.
"""

import asyncio
import signal
import sqlite3
import threading
from contextvars import ContextVar
from pathlib import Path


async def work():
    await asyncio.sleep(0.01)
    return "worked"


DATABASE = sqlite3.connect(":memory:")
DATABASE.execute("create table made_at_import (x)")
LOCAL = threading.local()
LOCAL.model = "loaded at import"
RUN_AT_IMPORT = asyncio.run(work())
PER_JOB = ContextVar("PER_JOB", default="unset")
KEPT = set()
DONE = asyncio.Event()


async def touch(path):
    await asyncio.sleep(0.01)
    Path(path).touch()
    DONE.set()


async def once_done():
    await DONE.wait()
    return id(asyncio.get_running_loop())


def handler(job):
    do = job["input"]["do"]
    if do == "asyncio.run":
        # What would have run is made first, as anybody does.
        running = work()
        try:
            return asyncio.run(running)
        finally:
            running.close()
    if do == "run_until_complete":
        running = work()
        try:
            return asyncio.get_event_loop().run_until_complete(running)
        finally:
            running.close()
    if do == "loop":
        return id(asyncio.get_running_loop())
    if do == "in a task":
        return asyncio.current_task() is not None
    if do == "at import":
        return RUN_AT_IMPORT
    if do == "sqlite":
        return DATABASE.execute("select count(*) from made_at_import").fetchone()[0]
    if do == "thread-local":
        return LOCAL.model
    if do == "create a task":
        KEPT.add(asyncio.get_running_loop().create_task(touch(job["input"]["path"])))
        return "made"
    if do == "call later":
        asyncio.get_running_loop().call_later(0.01, Path(job["input"]["path"]).touch)
        return "ordered"
    if do == "in an executor":
        loop, path = asyncio.get_running_loop(), Path(job["input"]["path"])
        loop.run_in_executor(None, work_of_executor).add_done_callback(lambda _: path.touch())
        return "ordered"
    if do == "return a coroutine":
        return once_done()
    if do == "context":
        before = PER_JOB.get()
        PER_JOB.set("set by a job before")
        return before
    if do == "signal":
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        return "set"
    if do == "main thread":
        return threading.current_thread() is threading.main_thread()
    raise AssertionError(do)


def work_of_executor():
    return "worked"


def generator(job):
    """Yields whether a task that it has made has run, until it has."""
    ran = []

    async def run():
        ran.append(True)

    KEPT.add(asyncio.get_running_loop().create_task(run()))
    has_run = False
    while not has_run:
        has_run = bool(ran)
        yield has_run
