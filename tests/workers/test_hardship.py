"""What may befall process workers, by handlers that misbehave or from outside; nothing is lost or left."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import signal
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from emulator import Clock, Emulator, EndpointConfig
from tests.cli.command import serving
from tests.limits import PATIENCE_S
from tests.processes import is_alive, wait_for_the_end_of
from tests.workers.kinds import KEY

MISBEHAVING = Path(__file__).with_name("misbehaving_handlers.py")
SCRIPT = """\
import runpod
import misbehaving_handlers

if __name__ == "__main__":
    runpod.serverless.start({"handler": misbehaving_handlers.handler})
"""
#: Emulated ms to the real one: restarts after crashes, and the grace of stopping, take no time.
RATE = 20
LOST = {"status": "FAILED", "error": "job timed out after 1 retries", "retries": 1}


class Endpoint:
    """One endpoint of process workers, over HTTP."""

    def __init__(self, http):
        self.http = http

    def run(self, do, **more):
        answer = self.http.post("/v2/ep/run", json={"input": {"do": do, **more}})
        return answer.json()["id"]

    def status(self, job_id):
        return self.http.get(f"/v2/ep/status/{job_id}").json()

    def ended(self, job_id):
        """The job once it has ended: what is told of it, without times and ids."""
        body = {"status": ""}
        while body["status"] not in ("COMPLETED", "FAILED", "CANCELLED"):
            body = self.http.get(f"/v2/ep/status-sync/{job_id}?wait=300000").json()
        return {key: body[key] for key in body if key in ("status", "output", "error", "retries")}

    def runsync(self, do, **more):
        return self.ended(self.run(do, **more))

    def cancel(self, job_id):
        assert self.http.post(f"/v2/ep/cancel/{job_id}").json()["status"] == "CANCELLED"

    def health(self):
        return self.http.get("/v2/ep/health").json()

    def workers(self):
        return self.http.get("/_emulator/workers").json()["workers"]


@contextmanager
def endpoint(handler, *, rate=RATE, **config):
    emulator = Emulator(
        {"ep": EndpointConfig(handler=handler, worker_kind="process", **{"workers_max": 1, **config})},
        clock=Clock(rate=rate),
        rate_limits=False,
    )
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(emulator),
        portal.wrap_async_context_manager(emulator.serve()) as url,
        httpx.Client(base_url=url, headers=KEY, trust_env=False, timeout=PATIENCE_S) as http,
    ):
        yield Endpoint(http)


@pytest.fixture(scope="module")
def function():
    """A worker of a bare function."""
    with endpoint(f"{MISBEHAVING}:handler", idle_timeout_s=600) as ready:
        yield ready


def script_in(folder):
    shutil.copy(MISBEHAVING, folder)
    (folder / "script.py").write_text(SCRIPT)
    return str(folder / "script.py")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """A worker of the real SDK."""
    with endpoint(script_in(tmp_path_factory.mktemp("script")), idle_timeout_s=600) as ready:
        yield ready


def noted(path):
    """The numbers that a handler has written down, once it has."""
    while not path.exists():
        assert not path.with_name("never").exists()
    return [int(number) for number in path.read_text().split()]


# What a handler returns or raises


@pytest.mark.parametrize(
    ("do", "error"),
    [
        ("nan", "output[0] is nan, which JSON cannot express"),
        (
            "some_bytes",
            "output is of type bytes, which JSON cannot express: return text, numbers, lists or dicts",
        ),
        ("circle", "output['ring']['ring'] contains itself, which JSON cannot express"),
    ],
)  # fmt: skip
def test_what_json_cannot_express_fails_by_name(function, do, error):
    assert function.runsync(do) == {"status": "FAILED", "error": error}


def test_thirty_megabytes_come_through_where_they_are_allowed(tmp_path):
    for handler in (f"{MISBEHAVING}:handler", script_in(tmp_path)):
        with endpoint(handler, result_limit_mib=40) as worker:
            assert len(worker.runsync("thirty_megabytes")["output"]) == 30_000_000


def test_a_stream_that_raises_after_three_chunks_fails_with_them(tmp_path):
    with endpoint(f"{MISBEHAVING}:stream") as worker:
        job_id = worker.run("well")
        assert worker.ended(job_id)["error"].startswith("handler: after three \ntraceback: ")
        chunks = worker.http.get(f"/v2/ep/stream/{job_id}").json()["stream"]
        assert [chunk["output"] for chunk in chunks] == [0, 1, 2]


# What it does to its process


@pytest.mark.parametrize(
    ("kind", "do", "told"),
    [
        ("function", "closes_its_output", "closed"),
        ("function", "deletes_its_folder", "gone"),
        ("script", "deletes_its_folder", "gone"),
        # With the SDK both processes would go on as the same worker, here as in production.
        ("function", "forks", "parent"),
        ("function", "forks_and_exits_in_the_child", 3),
    ],
)
def test_what_a_worker_survives(tmp_path, kind, do, told):
    with endpoint(f"{MISBEHAVING}:handler" if kind == "function" else script_in(tmp_path)) as worker:
        assert worker.runsync(do) == {"status": "COMPLETED", "output": told}
        assert worker.runsync("well") == {"status": "COMPLETED", "output": "well"}


def test_a_child_that_stays_on_the_loop_takes_nothing_from_its_parent(tmp_path):
    with endpoint(f"{MISBEHAVING}:forks_on_the_loop") as worker:
        jobs = [worker.run("fork", path=str(tmp_path / "go")), *(worker.run("well") for _ in range(30))]
        bodies = [worker.ended(job_id) for job_id in jobs]
        assert {body["status"] for body in bodies} == {"COMPLETED"}
        assert len({body["output"] for body in bodies}) == 1
        (tmp_path / "go").touch()


def test_the_sdk_dies_when_it_cannot_print_and_is_restarted(script):
    assert script.runsync("closes_its_output") == {"status": "COMPLETED", "output": "closed"}
    assert script.runsync("well")["output"] == "well"


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("exits", "its process ended with exit code 3; it wrote: last words"),
        ("exits_at_once", "its process ended with exit code 3; it wrote: last words"),
        ("aborts", "its process was killed by SIGABRT"),
        ("segfaults", "its process was killed by SIGSEGV"),
        ("is_killed", "its process was killed by SIGKILL (was it out of memory?)"),
    ],
)
def test_a_death_is_seen_explained_and_survived(function, caplog, do, reason):
    assert function.runsync(do) == LOST
    assert f"requeued: {reason}" in caplog.text
    assert f"lost for the second time: {reason}" in caplog.text
    assert function.runsync("well")["output"] == "well"


def test_a_death_of_the_real_sdk_is_seen_too(script, caplog):
    caplog.set_level(logging.INFO, "emulator")
    assert script.runsync("exits_at_once") == LOST
    assert "its process ended with exit code 3; it wrote: last words" in caplog.text
    assert script.runsync("well")["output"] == "well"
    assert "│ --- Starting Serverless Worker" in caplog.text
    assert not re.search("job [^ ]+ │ --- Starting", caplog.text), "a new process is not about the old job"


def test_a_result_that_never_comes_is_told_as_what_it_is(script, caplog):
    assert script.runsync("some_bytes") == LOST
    for what in ("requeued", "lost for the second time"):
        assert (
            f"{what}: its result never came: its worker asked for another job; the worker wrote:"
            " Error while returning job result. | Object of type bytes is not JSON serializable"
        ) in caplog.text


def test_a_gigabyte_of_output_slows_nobody_down(function):
    status = Path(f"/proc/{os.getpid()}/status")

    def memory_kib():
        return int(next(line.split()[1] for line in status.read_text().splitlines() if "VmRSS" in line))

    assert function.runsync("well")["output"] == "well"
    before = memory_kib()
    job_id = function.run("prints_a_gigabyte")
    while function.status(job_id)["status"] != "COMPLETED":
        assert function.http.get("/_emulator/health").status_code == 200
    assert memory_kib() - before < 200_000
    kept = function.http.get(f"/_emulator/jobs/{job_id}/logs").json()["lines"]
    assert sum(len(line["text"]) for line in kept) <= 256 * 1024
    assert any("the rest of this second's output is not shown" in line["text"] for line in kept)


# Handlers that do not stop


@pytest.mark.parametrize("do", ["blocks", "ignores_sigterm", "has_children"])
@pytest.mark.parametrize("kind", ["function", "script"])
def test_a_handler_that_does_not_stop_is_killed_with_its_children(request, tmp_path, kind, do):
    worker = request.getfixturevalue(kind)
    job_id = worker.run(do, path=str(tmp_path / "note"))
    processes = noted(tmp_path / "note")
    assert all(map(is_alive, processes))
    worker.cancel(job_id)
    assert worker.runsync("well") == {"status": "COMPLETED", "output": "well"}
    wait_for_the_end_of(processes, worker.http)


def test_a_handler_that_runs_too_long_is_killed(function, tmp_path):
    answer = function.http.post(
        "/v2/ep/run",
        json={
            "input": {"do": "blocks", "path": str(tmp_path / "note")},
            # Three real seconds, by when it has told that it has begun.
            "policy": {"executionTimeout": 60_000},
        },
    )
    assert function.ended(answer.json()["id"]) == {"status": "FAILED", "error": "executionTimeout exceeded"}
    assert function.runsync("well")["output"] == "well"
    wait_for_the_end_of(noted(tmp_path / "note"), function.http)


def test_a_handler_that_swallows_its_cancellation_is_killed(tmp_path, caplog):
    with endpoint(f"{MISBEHAVING}:swallows_cancellation") as worker:
        job_id = worker.run("waits", path=str(tmp_path / "note"))
        noted(tmp_path / "note")
        worker.cancel(job_id)
        assert worker.runsync("well")["output"] == "well"
    assert f"did not let go of job {job_id} within 3000 ms" in caplog.text


def test_what_a_crashed_worker_has_started_is_ended(function, tmp_path):
    assert function.runsync("crashes_with_children", path=str(tmp_path / "note")) == LOST
    wait_for_the_end_of(noted(tmp_path / "note"), function.http)


def test_a_child_that_a_handler_leaves_goes_with_its_worker(tmp_path):
    with endpoint(f"{MISBEHAVING}:handler") as worker:
        worker.runsync("forks_and_leaves_the_child", path=str(tmp_path / "note"))
        processes = noted(tmp_path / "note")
        assert all(map(is_alive, processes))
    wait_for_the_end_of(processes)


# Workers that do not come up

UNFIT = """\
import runpod

@runpod.serverless.register_fitness_check
def has_a_gpu():
    raise RuntimeError("no GPU here")

runpod.serverless.start({"handler": lambda job: 1})
"""


def test_a_worker_that_is_unfit_is_restarted_and_says_why(tmp_path, caplog):
    (tmp_path / "unfit.py").write_text(UNFIT)
    with endpoint(str(tmp_path / "unfit.py")) as worker:
        worker.run("well")
        while not (seen := [each for each in worker.workers() if each["crashes"] == 2]):
            pass
        [unfit] = seen
        while unfit["state"] != "unhealthy":
            [unfit] = worker.workers()
        assert "fitness check 'has_a_gpu' failed: " in unfit["reason"]
        assert "no GPU here" in unfit["reason"]
        assert "its process ended with exit code 1" in unfit["reason"]
        assert unfit["reason"].startswith("restarting in ")
    sentence = "no worker of 'ep' starts: fitness check 'has_a_gpu' failed: RuntimeError: no GPU here"
    assert caplog.text.count(sentence) == caplog.text.count("no GPU here") == 1


# Chaos

NOTING = """\
import os, time

def handler(job):
    log = os.open({log!r}, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    for step in ("begins", "ends"):
        os.write(log, f"{{step}} {{job['id']}} {{os.getpid()}}\\n".encode())
        if step == "begins":
            time.sleep(0.03)
    os.close(log)
    return job["input"]["number"]
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_two_hundred_jobs_survive_fifty_killings(tmp_path, seed):
    log, chance = tmp_path / "log", random.Random(seed)
    (tmp_path / "noting.py").write_text(NOTING.format(log=str(log)))
    with endpoint(f"{tmp_path}/noting.py:handler", workers_min=4, workers_max=4, rate=50) as pool:
        jobs = {pool.run("", number=number): number for number in range(200)}
        seen, killed = set(), 0
        while killed < 50:
            alive = [worker["process_id"] for worker in pool.workers() if worker["process_id"]]
            seen.update(alive)
            if alive:
                killed += kill(chance.choice(alive))
        ends = {job_id: pool.ended(job_id) for job_id in jobs}
        seen.update(worker["process_id"] for worker in pool.workers() if worker["process_id"])
        health = pool.health()["jobs"]
    for job_id, number in jobs.items():
        assert ends[job_id] in (
            {"status": "COMPLETED", "output": number},
            {"status": "COMPLETED", "output": number, "retries": 1},
            LOST,
        )
    statuses = Counter(end["status"] for end in ends.values())
    assert health == {
        "completed": statuses["COMPLETED"],
        "failed": statuses["FAILED"],
        "inProgress": 0,
        "inQueue": 0,
        "retried": sum(end.get("retries", 0) for end in ends.values()),
    }
    never_twice_at_once(log, ends)
    wait_for_the_end_of(seen)


def kill(process_id):
    """Whether there was somebody to kill."""
    if not process_id:
        return False
    try:
        os.kill(process_id, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def never_twice_at_once(log, ends):
    """A second attempt begins after the first has ended or its process is dead: it has another process."""
    begun, finished = {}, Counter()
    for line in log.read_text().splitlines():
        step, job_id, process_id = line.split()
        if step == "begins":
            attempts = begun.setdefault(job_id, [])
            assert process_id not in attempts
            attempts.append(process_id)
        else:
            assert begun[job_id][-1] == process_id, "an attempt went on after the next had begun"
            finished[job_id] += 1
    for job_id, end in ends.items():
        assert len(begun.get(job_id, ())) <= 2
        # Killed between its last line and its result, it runs again.
        assert finished[job_id] >= (end["status"] == "COMPLETED")


def test_sdk_workers_survive_being_killed(tmp_path):
    with endpoint(script_in(tmp_path), workers_min=3, workers_max=3, rate=5) as pool:
        ids = [pool.run("well") for _ in range(9)]
        chance, killed = random.Random(1), 0
        while killed < 3:
            if up := [each["process_id"] for each in pool.workers() if each["state"] in ("idle", "running")]:
                # One that has just died has no process any more.
                killed += kill(chance.choice(up) or 0)
        ends = [pool.ended(job_id) for job_id in ids]
        assert all(
            end in ({"status": "COMPLETED", "output": "well"}, LOST) or end.get("retries") for end in ends
        )
        assert pool.health()["jobs"]["completed"] + pool.health()["jobs"]["failed"] == 9


# The end of the emulator itself


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_the_emulator(tmp_path, number):
    shutil.copy(MISBEHAVING, tmp_path)
    arguments = ["misbehaving_handlers.py:handler", "--workers-min", "2", "--workers-max", "2"]
    with serving(tmp_path, *arguments) as served:
        served.post("/v2/local/run", {"input": {"do": "has_children", "path": str(tmp_path / "note")}})
        processes = noted(tmp_path / "note")
        while len(up := [each["process_id"] for each in served.get("/_emulator/workers")["workers"]]) < 2:
            pass
        assert served.stop(number) == (0 if number == signal.SIGTERM else -number)
        wait_for_the_end_of([*processes, *filter(None, up)])


def test_no_worker_outlives_the_emulator_whose_guard_was_killed_before(tmp_path):
    """The next guard is told of the workers that run already, as soon as there is something to tell."""
    shutil.copy(MISBEHAVING, tmp_path)
    arguments = ["misbehaving_handlers.py:handler", "--workers-min", "2", "--workers-max", "2"]
    with serving(tmp_path, *arguments) as served:
        served.post("/v2/local/run", {"input": {"do": "has_children", "path": str(tmp_path / "note")}})
        at_work = noted(tmp_path / "note")
        while not (idle := [each for each in workers_of(served) if each["state"] == "idle"]):
            pass
        [guard] = guards_of(served.process.pid)
        os.kill(guard, signal.SIGKILL)
        wait_for_the_end_of([guard])
        # Its end, and the start of the next, are told to the guard.
        os.kill(idle[0]["process_id"], signal.SIGKILL)
        while not set(guards_of(served.process.pid)) - {guard}:
            served.get("/_emulator/health")
        assert all(map(is_alive, at_work))
        served.stop(signal.SIGKILL)
        wait_for_the_end_of(at_work)


def workers_of(served):
    return served.get("/_emulator/workers")["workers"]


def guards_of(process_id):
    """The programs that stand beside an emulator."""
    found = []
    for child in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split():
        # Some may end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"guard.py\0" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def test_log_lines_for_a_program_tell_of_deaths(tmp_path):
    shutil.copy(MISBEHAVING, tmp_path)
    arguments = ["misbehaving_handlers.py:handler", "--log-format", "json", "--clock", "scaled:20"]
    with serving(tmp_path, *arguments) as served:
        job_id = served.post("/v2/local/run", {"input": {"do": "exits_at_once"}})["id"]
        while served.get(f"/v2/local/status/{job_id}")["status"] != "FAILED":
            pass
        served.stop()
        lines = [json.loads(line) for line in served.log.splitlines()]
    written = [line for line in lines if line.get("event") == "output"]
    assert {(line["stream"], line["job_id"], line["message"].rpartition("│ ")[2]) for line in written} == {
        ("stderr", job_id, "last words")
    }
    deaths = [line for line in lines if line.get("event") == "worker" and line.get("to") == "unhealthy"]
    assert len(deaths) == 2
    assert {line["level"] for line in deaths} == {"warning"}
