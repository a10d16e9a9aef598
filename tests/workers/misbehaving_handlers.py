"""Handlers that do what they should not. A job's input is the name of the misdeed, or has it as `do`."""

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time


def handler(job):
    do, path = job["input"]["do"], job["input"].get("path", "")
    return globals()[do](path)


async def swallows_cancellation(job):
    if job["input"]["do"] == "well":
        return "well"
    _note(job["input"]["path"])
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass


async def forks_on_the_loop(job):
    """The child stays on its parent's loop until there is the file."""
    do, path = job["input"]["do"], job["input"].get("path")
    if do == "well" or os.fork():
        return os.getpid()
    while not os.path.exists(path):
        await asyncio.sleep(0)
    return "child"


def stream(job):
    yield from range(3)
    raise RuntimeError("after three")


def well(_):
    return "well"


def blocks(path):
    _note(path)
    while True:
        time.sleep(1000)


def ignores_sigterm(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return blocks(path)


def has_children(path):
    _note(
        path,
        subprocess.Popen(["sleep", "1000"]).pid,
        subprocess.Popen(["sleep", "1000"], start_new_session=True).pid,
        # By no mark of its environment either (attack.md 31).
        subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True, env={}).pid,
    )
    time.sleep(1000)


def crashes_with_children(path):
    _note(
        path,
        subprocess.Popen(["sleep", "1000"]).pid,
        subprocess.Popen(["sleep", "1000"], start_new_session=True).pid,
    )
    os._exit(9)


def forks(path):
    """Both return; the child of the handler is not the worker, and ends as it leaves it."""
    child = os.fork()
    if child == 0:
        return "child"
    os.waitpid(child, 0)
    return "parent"


def forks_and_exits_in_the_child(path):
    """Its own exit code is what the child leaves."""
    child = os.fork()
    if child == 0:
        sys.exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forks_and_leaves_the_child(path):
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    _note(path, child)
    return "parent"


def closes_its_output(_):
    os.close(1)
    os.close(2)
    return "closed"


def prints_a_gigabyte(_):
    block = (b"x" * 99 + b"\n") * 10_000
    for _ in range(1_000):
        os.write(1, block)
    return "printed"


def nan(_):
    return [float("nan")]


def some_bytes(_):
    return b"\x00"


def circle(_):
    ring = {}
    ring["ring"] = ring
    return ring


def thirty_megabytes(_):
    return "x" * 30_000_000


def exits(_):
    print("last words", file=sys.stderr)
    sys.exit(3)


def exits_at_once(_):
    print("last words", file=sys.stderr)
    os._exit(3)


def aborts(_):
    os.abort()


def segfaults(_):
    ctypes.string_at(0)


def is_killed(_):
    os.kill(os.getpid(), signal.SIGKILL)


def deletes_its_folder(_):
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    shutil.rmtree(folder)
    return "gone"


def _note(path, *numbers):
    """Tell the test that it has begun, and the numbers of its processes."""
    draft = f"{path}.draft"
    with open(draft, "w") as note:
        note.write(" ".join(map(str, (os.getpid(), *numbers))))
    os.rename(draft, path)
