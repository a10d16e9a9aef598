"""The threads of inline workers: what each has of its own, what lasts, and what is said of the rest."""

import asyncio
import socket
import sqlite3
import threading

import pytest

from emulator import Emulator, HandlerError
from tests.api.client import emulated
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio

COUNTS = """
import threading
WAIT = threading.Event()
count = 0
made_in = threading.get_ident()

def handler(job):
    global count
    count += 1
    if job["input"] == "wait":
        open(job["at"], "w").close()
        WAIT.wait()
    if job["input"] == "refresh":
        return {"refresh_worker": True, "count": count}
    return {"count": count, "at home": made_in == threading.get_ident()}
"""
SCRIPT = """
import runpod
runpod.serverless.start({"handler": handler})
"""


@pytest.fixture(params=["handler.py", "handler.py:handler"])
def written(request, tmp_path):
    (tmp_path / "handler.py").write_text(COUNTS + (SCRIPT if request.param == "handler.py" else ""))
    return f"{tmp_path}/{request.param}"


async def appears(path):
    while not path.exists():
        await asyncio.to_thread(path.parent.stat)


def workers_threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("runpod-worker")}


async def told_of(client, job_id):
    """What the emulator has to say about a job."""
    return "\n".join((await client.http.get(f"/_emulator/jobs/{job_id}/timeline")).json()["lines"])


async def test_each_worker_has_a_copy_of_its_own_and_keeps_it(written, tmp_path):
    async with emulated(written, workers_max=2, scaler_type="REQUEST_COUNT", scaler_value=1) as client:
        busy = await client.run("wait", at=str(tmp_path / "begun"))
        await appears(tmp_path / "begun")
        others = [await client.runsync() for _ in range(2)]
        assert [body["output"] for body in others] == [
            {"count": 1, "at home": True},
            {"count": 2, "at home": True},
        ]
        assert others[0]["workerId"] != (await client.status(busy))["workerId"]


async def test_the_next_worker_finds_the_module_as_it_was_left(written):
    async with emulated(written) as client:
        first = await client.runsync()
        await client.clock.advance(10_000)
        assert await client.workers() == {}
        second = await client.runsync()
        assert second["workerId"] != first["workerId"]
        assert second["output"] == {"count": 2, "at home": True}


async def test_a_worker_that_asked_to_be_replaced_leaves_a_fresh_copy(written):
    async with emulated(written) as client:
        bodies = [await client.runsync("refresh") for _ in range(3)]
        assert [body["output"]["count"] for body in bodies] == [1, 1, 1]


async def test_after_an_abandoned_worker_comes_a_fresh_copy(written, tmp_path):
    async with emulated(written, workers_max=1) as client:
        stuck = await client.run("wait", at=str(tmp_path / "begun"))
        await appears(tmp_path / "begun")
        await client.post(f"/cancel/{stuck}")
        assert (await client.runsync())["output"] == {"count": 1, "at home": True}


async def test_code_that_was_replaced_leaves_no_thread(written):
    others = workers_threads()
    async with emulated(written) as client:
        await client.runsync()
        await client.clock.advance(10_000)
        of_old_code = workers_threads() - others
        assert of_old_code
        await client.emulator.reload("ep")
        for thread in of_old_code:
            await asyncio.to_thread(thread.join, PATIENCE_S)
            assert not thread.is_alive()


async def test_a_copy_that_does_not_load_is_a_crash_of_its_worker(tmp_path):
    path = tmp_path / "handler.py"
    path.write_text(COUNTS + SCRIPT)
    async with emulated(path, workers_max=1) as client:
        await client.runsync("refresh")
        path.write_text("raise RuntimeError('no GPU')")
        job_id = await client.run()
        while "unhealthy" not in await client.workers():
            await client.clock.settle()
        workers = (await client.http.get("/_emulator/workers")).json()
        assert "RuntimeError: no GPU" in str(workers)
        path.write_text(COUNTS + SCRIPT)
        await client.clock.advance(1_000)
        assert (await client.ended(job_id))["output"]["count"] == 1


@pytest.mark.parametrize("line", ["sys.exit(3)", "asyncio.get_running_loop().stop()"])
async def test_what_ends_the_loop_under_a_handler_is_a_crash(tmp_path, line):
    (tmp_path / "handler.py").write_text(f"""
import asyncio, pathlib, sys

async def end():
    {line}

async def for_ever():
    await asyncio.Event().wait()

def handler(job):
    marker = pathlib.Path(job["input"])
    if marker.exists():
        return "the second time"
    marker.touch()
    asyncio.get_running_loop().create_task(end())
    return for_ever()
""")
    async with emulated(f"{tmp_path}/handler.py:handler", workers_max=1) as client:
        job_id = await client.run(str(tmp_path / "marker"))
        while "unhealthy" not in await client.workers():
            await client.clock.settle()
        await client.clock.advance(1_000)
        body = await client.ended(job_id)
        assert (body["output"], body["retries"]) == ("the second time", 1)


def of_task(loop, done):
    async def set_done():
        done.set()

    loop.create_task(set_done())


def of_executor(loop, done):
    # It goes on only once the handler has returned and the thread waits for the next job.
    loop.run_in_executor(None, threading.Event().wait, 0.05).add_done_callback(lambda _: done.set())


def of_reader(loop, done):
    ours, theirs = socket.socketpair()

    def on_readable():
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
        done.set()

    loop.add_reader(ours, on_readable)
    theirs.send(b"x")


def of_writer(loop, done):
    ours, theirs = socket.socketpair()

    def on_writable():
        loop.remove_writer(ours)
        ours.close()
        theirs.close()
        done.set()

    loop.add_writer(ours, on_writable)


@pytest.mark.parametrize(
    "put",
    [
        of_task,
        of_executor,
        of_reader,
        of_writer,
        lambda loop, done: loop.call_soon(done.set),
        lambda loop, done: loop.call_later(0.01, done.set),
        lambda loop, done: threading.Thread(target=loop.call_soon_threadsafe, args=(done.set,)).start(),
    ],
)
async def test_whatever_a_handler_puts_on_its_loop_first_is_run(put):
    done = threading.Event()

    def handler(job):
        put(asyncio.get_running_loop(), done)

    async with emulated(handler) as client:
        await client.runsync()
        assert await asyncio.to_thread(done.wait, 20)


async def test_tasks_that_are_left_are_cancelled_with_the_emulator():
    cancelled = threading.Event()
    tasks = []

    async def go_on():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def handler(job):
        tasks.append(asyncio.get_running_loop().create_task(go_on()))

    async with emulated(handler) as client:
        await client.runsync()
        assert not cancelled.is_set()
    assert await asyncio.to_thread(cancelled.wait, 20)


async def test_a_function_that_was_given_has_left_its_thread_and_the_job_is_told_so():
    database = sqlite3.connect(":memory:")
    local = threading.local()
    local.model = "loaded"
    does = {"sqlite": lambda: database.execute("select 1").fetchone(), "local": lambda: local.model}

    async with emulated(lambda job: does[job["input"]]()) as client:
        for what, message in [
            ("sqlite", "SQLite objects created in a thread"),
            ("local", "no attribute 'model'"),
        ]:
            body = await client.runsync(what)
            assert message in body["error"]
            assert "--worker-kind process" in await told_of(client, body["id"])
    database.close()


async def test_what_works_in_place_of_asyncio_run_is_said_once():
    async def work():
        return "worked"

    def handler(job):
        running = work()
        try:
            return asyncio.run(running)
        finally:
            running.close()

    async with emulated(handler) as client:
        bodies = [await client.runsync() for _ in range(2)]
        assert {body["status"] for body in bodies} == {"FAILED"}
        told = [await told_of(client, body["id"]) for body in bodies]
        assert ["Make the handler `async def`" in text for text in told] == [True, False]


async def test_a_script_that_wants_signals_when_it_is_loaded_is_told_who_has_them(tmp_path):
    path = tmp_path / "handler.py"
    path.write_text("import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_DFL)\n" + COUNTS + SCRIPT)
    with pytest.raises(HandlerError) as refused:
        async with emulated(path):
            pass
    assert "signal only works in main thread" in str(refused.value)
    assert "--worker-kind process" in str(refused.value)


async def test_what_loaded_before_a_handler_that_does_not_is_ended(tmp_path):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(COUNTS + SCRIPT)
    bad.write_text("raise RuntimeError")
    before = set(threading.enumerate())
    with pytest.raises(HandlerError):
        await Emulator({"good": good, "bad": bad}).start()
    started = [thread for thread in set(threading.enumerate()) - before if "runpod-worker" in thread.name]
    for thread in started:
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()
