"""Help can be read on a terminal of 80 columns, and mistakes are told in the user's own words."""

import re

import pytest

from emulator.cli import cli
from tests.cli.command import run

COMMANDS = ["serve", "invoke", "test", "exec", "submit", "status", "jobs", "logs", "cancel", "retry", "purge",
            "health", "workers", "reset", "env", "doctor", "healthcheck"]  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [[], *([name] for name in COMMANDS), ["clock"], ["clock", "advance"], ["faults", "add"]],
    ids=" ".join,
)
def test_help_fits_80_columns_and_says_nothing_of_python(tmp_path, words):
    done = run(tmp_path, *words, "--help", COLUMNS="80", TERM="xterm")
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    assert re.findall(r"<\w+|…|int range|list\[|VALUE", done.stdout) == []


def test_commands_and_options_stand_in_groups(tmp_path):
    listed = run(tmp_path, "--help").stdout
    assert [line for line in listed.splitlines() if line.endswith(":") and not line.startswith(" ")] == [
        "Run handlers:", "Jobs of an emulator that runs:", "Look at it, and steer it:", "This machine:",
        "Options:",
    ]  # fmt: skip
    options = run(tmp_path, "serve", "--help").stdout
    workers = options.partition("Endpoint settings:\n")[2].partition("\n\n")[0]
    assert "--execution-timeout DURATION" in workers
    assert "--port" not in workers


def test_there_is_completion(tmp_path):
    done = run(
        tmp_path, "--show-completion", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", SHELL="/bin/bash"
    )
    assert done.returncode in (0, 2)
    assert cli._add_completion


@pytest.fixture
def folder(tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("def handler(job):\n    return 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["a.py:handler", "b.py"],
            "'b.py' is a second handler beside 'a.py:handler': more endpoints are given",
        ),
        (["--endpoint", "x=a.py:handler", "--endpoint", "x"], "endpoint 'x' is given twice"),
        (
            ["b.py", "--endpoint", "x=a.py:handler"],
            "b.py is the handler of no endpoint: each --endpoint has its",
        ),
        (["a.py:handler", "-m", "b"], "there is a module (b) and a.py:handler: give one of them"),
        (
            ["--execution-timeout", "1s"],
            "--execution-timeout is 1000 ms: it must be at least 5000 and at most",
        ),
    ],
)
def test_what_would_be_dropped_silently_is_refused(folder, arguments, sentence):
    done = run(folder, "serve", "--port", "0", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {sentence}")


def test_a_wrong_value_of_the_file_is_told_as_the_files(folder):
    (folder / "emulator.toml").write_text('workers-max = "many"\n')
    done = run(folder, "serve")
    assert done.returncode == 2
    assert "Invalid value for workers-max in emulator.toml: " in done.stderr


ARGUMENTS = "import runpod, sys\nrunpod.serverless.start({'handler': lambda job: [sys.argv[1:], __name__]})\n"


def test_arguments_and_modules_of_invoke(folder):
    (folder / "worker.py").write_text(ARGUMENTS)
    done = run(folder, "invoke", "worker.py", "-i", "1", "--", "--model", "tiny")
    assert (done.returncode, done.stdout) == (0, '[["--model","tiny"],"__main__"]\n')
    done = run(folder, "invoke", "-m", "worker", "-i", "1", "--", "--model", "tiny")
    assert (done.returncode, done.stdout) == (0, '[["--model","tiny"],"__main__"]\n')
    done = run(folder, "invoke", "a.py:handler", "-i", "1", "more")
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'more' is one argument too many")
    done = run(folder, "invoke", "a.py:handler", "-i", "1", "--", "more")
    assert "they do not go with an inline handler" in done.stderr


def test_arguments_of_test(folder):
    (folder / "worker.py").write_text(ARGUMENTS)
    (folder / "tests.json").write_text(
        '{"tests": [{"name": "t", "input": {"n": 1}, "expected_output": [["-x"], "__main__"]}]}'
    )
    done = run(folder, "test", "tests.json", "--handler", "worker.py", "--", "-x")
    assert done.returncode == 0, done.stdout
    done = run(folder, "test", "tests.json", "-m", "worker")
    assert done.returncode == 1
