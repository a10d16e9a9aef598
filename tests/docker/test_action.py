"""action.yml, its steps run as a runner would: in order, in a job's folder, with the runner's variables.

Not real: the runner itself, and setup-python; and pip finds what it installs in this environment.
"""

import os
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml

from tests.docker.dockerfile import PROJECT
from tests.limits import PATIENCE_S

ACTION = yaml.safe_load((PROJECT / "action.yml").read_text())
INSTALL, SERVE = [step for step in ACTION["runs"]["steps"] if "run" in step]


class Runner:
    """What a job has: a folder for its files, and the files that steps write to."""

    def __init__(self, folder, environment):
        self.temp = folder / "temp"
        self.temp.mkdir()
        self._environment = environment

    def run(self, step, workspace, *, inputs=None, **variables):
        """Run a step; returns the process and what it wrote to each of the runner's files."""
        context = {
            **{f"inputs.{name}": str(spec["default"]) for name, spec in ACTION["inputs"].items()},
            **{f"inputs.{name}": value for name, value in (inputs or {}).items()},
            "github.action_path": str(PROJECT),
        }
        files = {name: workspace / f".{name}" for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH")}
        for file in files.values():
            file.write_text("")
        script = workspace / ".step.sh"
        script.write_text(evaluated(step["run"], context))
        assert step["shell"] == "bash"
        process = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=workspace,
            env={
                **self._environment,
                **{name: evaluated(text, context) for name, text in step["env"].items()},
                **{name: str(file) for name, file in files.items()},
                "RUNNER_TEMP": str(self.temp),
                **variables,
            },
            # An emulator that stays must not keep these open: a runner would wait for it.
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return process, {name: file.read_text() for name, file in files.items()}


def evaluated(text, context):
    return re.sub(r"\$\{\{\s*(\S+)\s*\}\}", lambda match: context[match[1]], text)


def pairs(text):
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.fixture(scope="module")
def runner(tmp_path_factory, dependencies, wheels):
    """A runner on which the emulator is installed."""
    folder = tmp_path_factory.mktemp("runner")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EMULATOR_", "RUNPOD_", "PIP_"))
    }
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_FIND_LINKS": str(wheels)}
    # Stands for what the job's Python has: the emulator's environment is to see it.
    job_packages = {"PYTHONPATH": str(dependencies)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    runner = Runner(folder, {**kept, **offline, **job_packages, "PATH": path, "NO_PROXY": "*"})
    workspace = folder / "workspace"
    workspace.mkdir()
    process, files = runner.run(INSTALL, workspace)
    assert process.returncode == 0, process.stdout + process.stderr
    (bin_folder,) = files["GITHUB_PATH"].split()
    assert os.listdir(bin_folder) == ["runpod-emulator"], "no other Python may come into the job's PATH"
    return runner


@pytest.fixture
def serve(runner, tmp_path):
    """Runs the step; returns its outputs. What it has started is stopped in the end."""
    started = []

    def run(inputs=None, **variables):
        asked = {"port": "0"} | (inputs or {})
        process, files = runner.run(SERVE, tmp_path, inputs=asked, **variables)
        assert process.returncode == 0, process.stdout + process.stderr
        outputs = pairs(files["GITHUB_OUTPUT"])
        started.append(int(outputs["pid"]))
        return outputs, pairs(files["GITHUB_ENV"]), process.stdout

    yield run
    for pid in started:
        # Its parent, the step, has ended: it is not ours to wait for.
        os.kill(pid, signal.SIGTERM)


@pytest.fixture
def fails(runner, tmp_path):
    """Runs the step, which must fail; returns what it printed, and its last line."""

    def run(**inputs):
        process, files = runner.run(SERVE, tmp_path, inputs={"port": "0", **inputs})
        assert process.returncode == 1
        assert not files["GITHUB_OUTPUT"]
        assert not files["GITHUB_ENV"]
        return process.stdout, process.stdout.splitlines()[-1]

    return run


def run_sync(outputs, endpoint, given):
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        return client.post(
            f"{outputs['base-url']}/{endpoint}/runsync",
            json={"input": given},
            headers={"authorization": f"Bearer {outputs['api-key']}"},
        ).json()


def write(folder, name, text):
    (folder / name).write_text(textwrap.dedent(text))
    return name


def test_a_script_of_the_job_is_served_with_what_the_job_has_installed(serve, tmp_path):
    script = """
        import runpod

        runpod.serverless.start({"handler": lambda job: f"Hello, {job['input']}!"})
        """
    outputs, variables, printed = serve({"handler": write(tmp_path, "handler.py", script)})
    assert run_sync(outputs, "local", "Ada")["output"] == "Hello, Ada!"
    assert outputs["base-url"] == f"{outputs['url']}/v2"
    assert variables == {
        "RUNPOD_ENDPOINT_BASE_URL": outputs["base-url"],
        "RUNPOD_API_KEY": outputs["api-key"],
    }
    assert "Ready." in printed
    assert "handler.py" in Path(outputs["log"]).read_text()


def test_every_input_is_heeded(serve, tmp_path, free_port):
    """`args` are words as a shell takes them; what follows `--` is the script's."""
    write(tmp_path, "work.py", "def run(job):\n    return 'worked'\n")
    write(tmp_path, "emulator.toml", "workers-max = 9\n")
    inputs = {
        "handler": "work.py:run",
        "endpoint": "images",
        "port": free_port,
        "api-key": "a-long-secret",
        "args": """--workers-max 2 --endpoint "more=work.py:run" --clock 'scaled:60' -- $(touch run) *""",
    }
    outputs, variables, printed = serve(inputs)
    assert outputs["url"] == f"http://127.0.0.1:{free_port}"
    assert outputs["api-key"] == variables["RUNPOD_API_KEY"] == "a-long-secret"
    assert "::add-mask::a-long-secret" in printed
    assert run_sync(outputs, "images", 1)["output"] == "worked"
    assert run_sync(outputs, "more", 1)["output"] == "worked"
    assert run_sync({**outputs, "api-key": "another"}, "images", 1)["status"] == 401
    assert "process, 0 to 2," in printed
    assert "clock     scaled:60" in printed
    assert not (tmp_path / "run").exists(), "nothing of the inputs may be run"


def test_what_the_job_sets_is_kept(serve, tmp_path):
    write(tmp_path, "emulator.toml", '[endpoints.first]\nworkers-max = 1\n[endpoints."second"]\n')
    outputs, variables, _ = serve(EMULATOR_API_KEY="one two")
    assert variables["RUNPOD_API_KEY"] == "one"
    assert run_sync(outputs, "second", {"mock_return": 5})["output"] == 5
    assert run_sync({**outputs, "api-key": "two"}, "first", {"mock_return": 5})["output"] == 5


def test_a_handler_that_does_not_load_fails_the_step_and_says_why(fails, tmp_path):
    printed, last = fails(handler=write(tmp_path, "broken.py", "def run(job:\n"))
    assert last.startswith(
        "::error title=runpod-emulator::the emulator ended with exit code 2 before it was ready: "
    )
    assert "broken.py" in last
    assert "::group::The emulator's log\n" in printed


def test_a_port_that_is_taken_fails_the_step(fails, serve):
    port = serve()[0]["url"].rpartition(":")[2]
    assert port in fails(port=port)[1]


def test_an_emulator_that_does_not_become_ready_is_ended(fails, tmp_path):
    stuck = """
        import threading

        threading.Event().wait()

        def run(job):
            return job
        """
    handler = f"{tmp_path / write(tmp_path, 'stuck.py', stuck)}:run"
    inputs = {"handler": handler, "args": "--worker-kind inline", "wait-timeout": "2"}
    last = fails(**inputs)[1]
    assert last == (
        "::error title=runpod-emulator::the emulator is not ready after 2 s;"
        " GET /_emulator/ready answers: nothing"
    )
    assert commands_with(handler) == []


def commands_with(word):
    """The command lines of all processes that have this word in theirs."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        # Some end meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            commands.append(path.read_text().split("\0"))
    return [command for command in commands if word in command]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"wait-timeout": "soon"}, "wait-timeout is 'soon': it must be a number of seconds"),
        (
            {"args": "--clock 'frozen"},
            "args cannot be split into words, is a quote left open? --clock 'frozen",
        ),
    ],
)
def test_inputs_that_make_no_sense_are_named(fails, inputs, told):
    assert fails(**inputs)[1] == f"::error title=runpod-emulator::{told}"


def test_inputs_reach_the_shell_as_variables_only():
    """One that was put into the script itself could run what it says."""
    for step in (INSTALL, SERVE):
        assert "${{" not in step["run"]


def test_a_python_is_set_up_only_when_one_is_asked_for():
    (step,) = [step for step in ACTION["runs"]["steps"] if "uses" in step]
    assert step["uses"].startswith("actions/setup-python@v")
    assert step["if"] == "inputs.python-version != ''"
    assert ACTION["runs"]["steps"].index(step) == 0


def test_a_version_is_installed_by_its_number(runner, tmp_path):
    """Offline there is none to be had: what pip says it looked for is what counts."""
    process, _ = runner.run(INSTALL, tmp_path, inputs={"version": "99.1"})
    assert process.returncode != 0
    assert "No matching distribution found for runpod-emulator[sdk]==99.1" in process.stderr


def test_what_it_gives_out_is_what_the_step_writes(serve):
    outputs, _, _ = serve()
    given = {name: re.search(r"steps\.serve\.outputs\.([\w-]+)", spec["value"])[1]
             for name, spec in ACTION["outputs"].items()}  # fmt: skip
    assert set(given.values()) == set(outputs)
    assert all(name == source for name, source in given.items())
    assert SERVE["id"] == "serve"
