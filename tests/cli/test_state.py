"""`serve --state`: what is there again after a kill, and what the command says of the file."""

from __future__ import annotations

import json
import signal
import textwrap

import psutil

from tests.cli.command import run, serving

EXTERNAL = ("--state", "state.db", "--worker-kind", "external", "--no-rate-limits")


def ids_of(server):
    return [job["id"] for job in server.get("/requests?limit=1000")["requests"]]


def test_what_was_answered_survives_kill_9(tmp_path):
    with serving(tmp_path, *EXTERNAL) as server:
        ids = [server.post("/run", {"input": number})["id"] for number in range(20)]
        taken = server.get("/job-take/w1?job_in_progress=0")
        server.post("/cancel/" + ids[5])
        server.stop(signal.SIGKILL)
    with serving(tmp_path, *EXTERNAL) as server:
        assert ids_of(server) == ids[::-1]
        assert server.get("/health")["jobs"]["inQueue"] == 18
        assert server.logs("20 jobs of before: 18 in the queue, 1 in progress, 1 ended")
        server.post(f"/job-done/w1/{taken['id']}", {"output": "from before"})
        assert server.get(f"/status/{ids[0]}")["output"] == "from before"
        assert server.get("/job-take/w2?job_in_progress=0")["id"] == ids[1]


def test_a_worker_process_that_was_killed_with_it_runs_its_job_once_more(tmp_path):
    (tmp_path / "handler.py").write_text(
        textwrap.dedent("""
            import os, pathlib, time
            def handler(job):
                with open("runs.txt", "a") as runs:
                    print(job["id"], file=runs)
                while not pathlib.Path("go").exists():
                    time.sleep(0.02)
                return "done"
        """)
    )
    options = ("handler.py:handler", "--state", "state.db")
    with serving(tmp_path, *options) as server:
        job_id = server.post("/run", {"input": 1})["id"]
        runs = tmp_path / "runs.txt"
        while not (runs.exists() and runs.read_text()):
            server.get(f"/status/{job_id}")
        server.stop(signal.SIGKILL)
    (tmp_path / "go").touch()
    with serving(tmp_path, *options) as server:
        body = server.get(f"/status-sync/{job_id}?wait=300000")
        assert (body["status"], body["output"]) == ("COMPLETED", "done")
        assert server.get("/health")["jobs"]["retried"] == 1
    assert (tmp_path / "runs.txt").read_text().split() == [job_id] * 2


def test_it_can_be_set_by_variable_and_file(tmp_path):
    with serving(tmp_path, EMULATOR_STATE="by_variable.db", EMULATOR_STATE_SYNC="full"):
        assert (tmp_path / "by_variable.db").exists()
    (tmp_path / "emulator.toml").write_text('state = "by_file.db"\nstate-sync = "off"\n')
    with serving(tmp_path):
        assert (tmp_path / "by_file.db").exists()


def test_what_cannot_be_written_is_refused_until_it_can_be(tmp_path):
    """The disk is full for this process: no file of it may grow."""
    with serving(tmp_path, *EXTERNAL) as server:
        first = server.post("/run", {"input": "x" * 50_000})["id"]
        waiting = server.post("/run", {"input": 2})["id"]
        taken = server.get("/job-take/w1?job_in_progress=0")
        process = psutil.Process(server.process.pid)
        unlimited = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (40_000, unlimited[1]))
        refused = server.request("POST", "/run", json={"input": "y" * 50_000})
        assert refused.status_code == 500
        assert "nothing can be made durable: the state file" in refused.json()["error"]
        assert ids_of(server) == [waiting, first]
        assert server.get(f"/status/{first}")["status"] == "IN_PROGRESS"
        # Nor is a job given to a worker with the answer, of which the file could not say who has it.
        done = server.request("POST", f"/job-done/w1/{taken['id']}?then_take=1", json={"output": 5})
        assert done.status_code == 500
        assert server.request("GET", f"/status/{first}").status_code == 500
        assert server.get("/health")["jobs"]["inQueue"] == 1
        process.rlimit(psutil.RLIMIT_FSIZE, unlimited)
        # As the SDK does, the worker brings it again.
        assert server.request("POST", f"/job-done/w1/{taken['id']}", json={"output": 5}).status_code == 200
        second = server.post("/run", {"input": "z"})["id"]
        server.stop(signal.SIGKILL)
    with serving(tmp_path, *EXTERNAL) as server:
        assert ids_of(server) == [second, waiting, first]
        assert server.get(f"/status/{first}")["output"] == 5
        assert server.get(f"/status/{waiting}")["status"] == "IN_QUEUE"


def test_a_second_emulator_is_refused_and_told_who_has_the_file(tmp_path):
    with serving(tmp_path, *EXTERNAL) as server:
        done = run(tmp_path, "serve", "--port", "0", "--state", "state.db")
        assert done.returncode == 1
        assert f"is in use by process {server.process.pid} ({server.url})" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_state_is_shown_carried_and_made_small(tmp_path):
    lines = "\n".join(
        json.dumps({"kind": "job", "endpoint": "local", "id": f"job-{number}", "request": {"input": number}})
        for number in range(30)
    )
    (tmp_path / "lines.jsonl").write_text(lines)
    assert run(tmp_path, "state", "import", "state.db", "lines.jsonl").stdout == "30 jobs\n"
    again = run(tmp_path, "state", "import", "state.db", "lines.jsonl")
    assert (again.returncode, "has a state already: say --replace" in again.stderr) == (1, True)
    with serving(tmp_path, *EXTERNAL) as server:
        assert server.get("/job-take/w1?job_in_progress=0")["id"] == "job-0"
        server.post("/job-done/w1/job-0", {"output": "done"})
        assert "local  1 COMPLETED, 29 IN_QUEUE" in run(tmp_path, "state", "show", "state.db").stdout
        shown = json.loads(run(tmp_path, "state", "show", "--json", EMULATOR_STATE="state.db").stdout)
        assert shown["jobs"] == {"local": {"COMPLETED": 1, "IN_QUEUE": 29}}
        assert "is in use by process" in run(tmp_path, "state", "compact", "state.db").stderr
        assert run(tmp_path, "state", "export", "state.db", "-o", "out.jsonl").returncode == 0
    assert "KiB → " in run(tmp_path, "state", "compact", "state.db").stdout
    assert run(tmp_path, "state", "import", "--replace", "copy.db", "out.jsonl").stdout == "30 jobs\n"
    exported = [json.loads(line) for line in run(tmp_path, "state", "export", "copy.db").stdout.splitlines()]
    assert [job["id"] for job in exported if job["kind"] == "job"] == [
        f"job-{number}" for number in range(30)
    ]
    assert next(job["output"] for job in exported if job.get("id") == "job-0") == "done"


def test_a_state_that_is_not_there(tmp_path):
    for command in ("show", "export", "compact"):
        done = run(tmp_path, "state", command, "no.db")
        assert (done.returncode, done.stderr) == (1, "error: there is no state file no.db\n")
    done = run(tmp_path, "state", "import", "state.db", "no.jsonl")
    assert (done.returncode, done.stderr) == (1, "error: no.jsonl: No such file or directory\n")
