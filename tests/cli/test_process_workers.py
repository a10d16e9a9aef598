"""`serve` with process workers: the user's script as it is, its interpreter, variables and arguments."""

import os
import pty
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.cli.command import ONE_WORKER, environment, run, serving

ARGUMENTS = """\
import argparse, os
import runpod

parser = argparse.ArgumentParser()
parser.add_argument("--model")
options = parser.parse_args()

def handler(job):
    return {
        "model": options.model, "cwd": os.getcwd(), "name": __name__,
        "given": os.environ.get("GIVEN"), "own": os.environ.get("OWN"),
    }

runpod.serverless.start({"handler": handler})
"""


def test_a_script_is_run_as_it_is(folder):
    (folder / "project").mkdir()
    (folder / "project" / "arguments.py").write_text(ARGUMENTS)
    (folder / "emulator.toml").write_text(
        '[endpoints.ep]\nhandler = "project/arguments.py"\nenv = { OWN = "table", GIVEN = "table" }\n'
    )
    with serving(folder, "--", "--model", "tiny", EMULATOR_WORKER_ENV_GIVEN="variable") as served:
        # The table's arguments are those of the command line where it has none of its own.
        assert served.post("/v2/ep/runsync", {"input": 1})["output"] == {
            "model": "tiny",
            "cwd": str(folder),
            "name": "__main__",
            "given": "table",
            "own": "table",
        }
        assert "sets nothing" not in served.log


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """An interpreter that has neither the emulator nor the SDK."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=False, symlinks=True)
    return home / "bin" / "python"


def test_a_function_needs_neither_the_emulator_nor_the_sdk_where_it_runs(folder, bare_python):
    (folder / "where.py").write_text("import sys\ndef handler(job):\n    return sys.prefix\n")
    with serving(folder, "where.py:handler", "--python", str(bare_python)) as served:
        assert served.rows("handler") == [f"where.py:handler (function, {bare_python})"]
        assert served.post("/v2/local/runsync", {"input": 1})["output"] == str(bare_python.parents[1])


def test_an_interpreter_in_the_file_is_found_from_there(folder, bare_python):
    (folder / "where.py").write_text("import sys\ndef handler(job):\n    return sys.prefix\n")
    (folder / "sub").mkdir()
    python = os.path.relpath(bare_python, folder / "sub")
    (folder / "sub" / "my.toml").write_text(
        f'[endpoints.ep]\nhandler = "../where.py:handler"\npython = "{python}"\n'
    )
    with serving(folder, "--config", "sub/my.toml") as served:
        assert served.post("/v2/ep/runsync", {"input": 1})["output"] == str(bare_python.parents[1])


def test_a_script_whose_interpreter_has_no_sdk_is_refused_with_what_to_do(folder, bare_python):
    ended = run(folder, "serve", "--port", "0", "script.py", "--python", str(bare_python))
    assert ended.returncode == 2
    assert ended.stderr == (
        f"error: script.py needs the package 'runpod', which {bare_python} does not have:"
        f" {bare_python} -m pip install runpod (or name the interpreter that has it with --python)\n"
    )


def test_a_script_that_ends_by_itself_is_explained(folder):
    (folder / "neighbour.py").write_text("")
    (folder / "ends.py").write_text("import neighbour\nprint('all done')\n")
    with serving(folder, "ends.py", *ONE_WORKER) as served:
        served.post("/v2/local/run", {"input": 1})
        [worker] = served.unhealthy_workers()
        assert served.logs("no worker of 'local' starts: its process ended with exit code 0 and never")
        assert "its process ended with exit code 0 and never asked for a job" in worker["reason"]
        assert "To serve one of its functions, name it: ends.py:handler" in worker["reason"]
        assert served.logs("│ all done")


def test_an_import_error_is_shown_without_the_runners_own_frames(folder):
    (folder / "broken.py").write_text("import no_such_package\ndef handler(job):\n    return 1\n")
    with serving(folder, "broken.py:handler") as served:
        served.post("/v2/local/run", {"input": 1})
        while served.get("/v2/local/health")["workers"]["unhealthy"] == 0:
            assert served.process.poll() is None
        assert served.logs("ModuleNotFoundError: No module named 'no_such_package'")
        assert "runner.py" not in served.log
        assert "frozen importlib" not in served.log


def save(path: Path, content: str) -> None:
    """As an editor does: a new file takes the old one's place."""
    draft = path.with_suffix(".tmp")
    draft.write_text(content)
    draft.replace(path)


def answer_until(served, wanted):
    """The answers of one job after the other, up to the one that is wanted."""
    seen = []
    while wanted not in seen:
        assert served.process.poll() is None
        seen.append(served.post("/v2/local/runsync", {"input": 1}).get("output"))
    return seen


@pytest.mark.parametrize("kind", ["process", "inline"])
def test_saved_code_is_taken_up_and_what_cannot_be_loaded_is_not(folder, kind):
    (folder / "parts").mkdir()
    (folder / "parts" / "__init__.py").write_text("ANSWER = 'first'\n")
    (folder / "main.py").write_text("import parts\ndef handler(job):\n    return parts.ANSWER\n")
    arguments = ["main.py:handler", "--reload", "--no-rate-limits", "--worker-kind", kind]
    with serving(folder, *arguments) as served:
        assert served.rows("reload") == ["saved code is taken up at once"]
        assert set(answer_until(served, "first")) == {"first"}
        # Until its watch is set up, a save is not seen: it is repeated.
        while "parts/__init__.py changed" not in served.log:
            save(folder / "parts" / "__init__.py", "ANSWER = 'second'\n")
            assert served.post("/v2/local/runsync", {"input": 1})["output"] in ("first", "second")
        assert set(answer_until(served, "second")) <= {"first", "second"}
        save(folder / "main.py", "import parts\ndef handler(job:\n")
        while "was not taken up, the old code goes on serving" not in served.log:
            assert served.post("/v2/local/runsync", {"input": 1})["output"] == "second"
        assert served.logs("SyntaxError")
        (folder / "main.py").rename(folder / "main.bak")
        while served.log.count("was not taken up, the old code goes on serving") < 2:
            assert served.post("/v2/local/runsync", {"input": 1})["output"] == "second"
        save(folder / "main.py", "def handler(job):\n    return 'third'\n")
        assert set(answer_until(served, "third")) <= {"second", "third"}


def test_code_that_is_broken_when_no_worker_is_left_is_not_started(folder):
    (folder / "parts.py").write_text("ANSWER = 'first'\n")
    good = "import parts\ndef handler(job):\n    return parts.ANSWER\n"
    (folder / "main.py").write_text(good)
    with serving(folder, "main.py:handler", "--reload", "--no-rate-limits") as served:
        # Until its watch is set up, a save is not seen: it is repeated.
        while "main.py changed: the next worker runs the new code" not in served.log:
            save(folder / "main.py", good)
        # What nobody imports may be as it likes.
        save(folder / "notes.py", "def (\n")
        while "notes.py changed" not in served.log:
            assert served.process.poll() is None
        save(folder / "parts.py", "ANSWER = (\n")
        while "parts.py changed and was not taken up" not in served.log:
            assert served.process.poll() is None
        assert served.logs("notes.py changed: the next worker runs the new code")
        assert (
            "parts.py changed and was not taken up, no worker is left; jobs wait until it is fixed"
            in served.log
        )
        job = served.post("/v2/local/run", {"input": 1})
        sentence = (
            "no worker of 'local' is started until its code is fixed:"
            " parts.py failed to load: SyntaxError: '(' was never closed (parts.py, line 1)"
        )
        assert served.get(f"/_emulator/jobs/{job['id']}")["waiting_for"] == sentence
        assert served.get("/_emulator/ready") == {"ready": False, "reasons": [sentence]}
        # The file that was saved is fine: the other is still broken.
        save(folder / "main.py", good + "\n")
        while "main.py changed and was not taken up" not in served.log:
            assert served.process.poll() is None
        assert served.get("/_emulator/workers")["workers"] == []
        save(folder / "parts.py", "ANSWER = 'mended'\n")
        assert served.get(f"/v2/local/status-sync/{job['id']}?wait=300000")["output"] == "mended"
        assert served.logs("parts.py changed: starting a worker with the new code")
        assert served.logs("the new code of 'local' serves")


@pytest.mark.parametrize("idle_timeout", ["1h", "1s"])
def test_new_code_that_does_not_start_is_told_with_what_serves(folder, idle_timeout):
    good = "def handler(job):\n    return 'good'\n"
    (folder / "main.py").write_text(good)
    arguments = ["main.py:handler", "--reload", "--no-rate-limits", "--idle-timeout", idle_timeout]
    with serving(folder, *arguments) as served:
        while "main.py changed" not in served.log:
            save(folder / "main.py", good)
        assert served.post("/v2/local/runsync", {"input": 1})["output"] == "good"
        if idle_timeout == "1s":
            while served.get("/v2/local/health")["workers"]["idle"]:
                assert served.process.poll() is None
        save(folder / "main.py", "import no_such_package\n" + good)
        failure = f"No module named 'no_such_package': {sys.executable} -m pip install no_such_package"
        if idle_timeout == "1h":
            while "does not start, the older code goes on serving: ModuleNotFoundError" not in served.log:
                assert served.process.poll() is None
            assert served.post("/v2/local/runsync", {"input": 1})["output"] == "good"
        else:
            while served.log.count("main.py changed: the next worker runs the new code") < 1:
                assert served.process.poll() is None
            job = served.post("/v2/local/run", {"input": 1})
            while "no worker of 'local' starts: ModuleNotFoundError" not in served.log:
                assert served.process.poll() is None
            assert "goes on serving" not in served.log
            assert served.get("/_emulator/ready")["ready"] is False
        assert served.logs(failure)
        save(folder / "main.py", good)
        while "the new code of 'local' serves" not in served.log.rpartition(failure)[2]:
            assert served.process.poll() is None
        if idle_timeout == "1s":
            ended = served.get(f"/v2/local/status-sync/{job['id']}?wait=300000")
            assert ended["output"] == "good"


def test_code_is_reloaded_on_a_terminal_and_not_elsewhere(folder):
    with serving(folder, "echo.py:handler") as served:
        assert served.rows("reload") == []
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "emulator", "serve", "echo.py:handler", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as process:
        assert process.stdout is not None
        banner = []
        while "Ready.\n" not in banner:
            banner.append(process.stdout.readline())
        process.terminate()
        assert process.wait() == 0
    os.close(theirs)
    os.close(ours)
    assert "  reload    saved code is taken up at once\n" in banner


def test_the_banner_of_external_workers_says_how_they_join(folder):
    with serving(folder, "--worker-kind", "external") as served:
        assert served.rows("handler") == []
        told = "\n".join(served.banner)
        assert f"RUNPOD_WEBHOOK_GET_JOB='{served.url}/v2/local/job-take/$ID?gpu=none'" in told
        assert served.get("/v2/local/health")["workers"]["initializing"] == 0


def test_what_the_banner_says_makes_any_process_a_worker(folder):
    with serving(folder, "--worker-kind", "external") as served:
        start = served.banner.index(next(line for line in served.banner if "RUNPOD_WEBHOOK_GET_JOB" in line))
        variables = " ".join(line.strip() for line in served.banner[start : start + 6])
        command = f"exec env {variables} {sys.executable} -u script.py"
        with subprocess.Popen(
            ["sh", "-c", command], cwd=folder, env=environment(), start_new_session=True
        ) as worker:
            try:
                body = served.post("/v2/local/runsync", {"input": 7})
                assert body["output"]["script"] == 7
                assert body["workerId"] == "any-name-of-its-own"
                assert served.get("/v2/local/health")["workers"]["idle"] == 1
            finally:
                # The SDK sends its heartbeats from a second process.
                os.killpg(worker.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[endpoints.a]\nenv = 3", "[endpoints.a] env is 3: it must be a table of variables"),
        ("[endpoints.a]\nargs = 'x'", "[endpoints.a] args is 'x': it must be a list of strings"),
        ("[endpoints.a]\nflashboot = 1", "[endpoints.a] flashboot is 1: it must be true or false"),
        ("[endpoints.a]\nworker-kind = 'thread'", "--worker-kind is 'thread': it must be inline, process"),
    ],
)  # fmt: skip
def test_a_wrong_table_stops_the_start_with_one_sentence(folder, content, sentence):
    (folder / "emulator.toml").write_text(content)
    ended = run(folder, "serve", "--port", "0")
    assert ended.returncode != 0
    assert sentence in " ".join(ended.stderr.replace("│", " ").split())
