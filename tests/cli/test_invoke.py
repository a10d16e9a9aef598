"""`runpod-emulator invoke`: one job from the command line, as a user sees it."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import environment, run
from tests.limits import PATIENCE_S
from tests.processes import is_alive

HANDLERS = """\
import os, sys, time

def echo(job):
    return job["input"]

def where(job):
    return ["process" if "RUNPOD_POD_ID" in os.environ else "inline", os.environ.get("MODEL")]

def chatty(job):
    print("printed")
    os.system("echo by a child")
    return {"text": "ü", "n": [1, 2.5]}

def odd(job):
    return {"text": "ü", "half": "\\ud800"}

def raises(job):
    print("about to fail")
    raise ValueError("bad thing\\nand more")

def reports(job):
    return {"error": "no such model", "seen": 1}

def nothing(job):
    return {}

def streams(job):
    yield {"n": 1}
    while not os.path.exists(job["input"]["until"]):
        time.sleep(0.01)
    yield "two"

def stream_raises(job):
    yield 1
    raise RuntimeError("in the stream")

def many(job):
    for n in range(100_000):
        yield n

def sleeps(job):
    with open("pid", "w") as file:
        file.write(str(os.getpid()))
    print("sleeping", flush=True)
    time.sleep(60)

async def blocks(job):
    sleeps(job)

async def quick_stream(job):
    for n in range(3):
        yield n

def exits(job):
    print("dying", flush=True)
    sys.exit(7)
"""
BOTH_KINDS = pytest.mark.parametrize("kind", ["inline", "process"])


@pytest.fixture
def project(folder: Path) -> Path:
    (folder / "mine.py").write_text(HANDLERS)
    return folder


def invoke(project, *arguments, **variables):
    return run(project, "invoke", *arguments, **variables)


# What goes in and what comes out


def test_the_output_is_one_line_and_all_that_is_printed_goes_elsewhere(project):
    ended = invoke(project, "mine.py:chatty", "--input", '{"a": 1}', PYTHONUNBUFFERED="")
    assert ended.stdout == '{"text":"ü","n":[1,2.5]}\n'
    assert ended.stderr == "printed\nby a child\n"
    assert ended.returncode == 0


def test_a_stream_that_ends_at_once_is_printed_too(project):
    ended = invoke(project, "mine.py:quick_stream", "--input", "1", "--stream", "--worker-kind", "inline")
    assert ended.stdout.split() == ["0", "1", "2"]


def test_on_a_terminal_the_output_is_indented(project):
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "emulator", "invoke", "mine.py:odd", "--input", "1"],
        cwd=project, env=environment(), stdout=theirs, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    shown = os.read(ours, 10_000).decode().replace("\r\n", "\n")
    os.close(theirs)
    os.close(ours)
    assert shown == '{\n  "text": "ü",\n  "half": "\\ud800"\n}\n'


def test_a_module_gets_its_input_from_a_file_or_from_standard_input(project):
    (project / "in.json").write_text('{"input": {"a": 1}}')
    ended = invoke(project, "mine:echo", "--input", "@in.json")
    assert ended.stdout == '{"input":{"a":1}}\n'
    # It may have been meant for the whole job.
    assert ended.stderr.startswith("note: --input is {")
    assert ended.returncode == 0
    ended = subprocess.run(
        [sys.executable, "-m", "emulator", "invoke", "mine:echo", "-i", "@-"],
        cwd=project, env=environment(), input="[1]", capture_output=True, text=True,
        timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    assert ended.stdout == "[1]\n"


def test_the_input_of_test_input_json_is_the_default_first_here_then_beside_the_handler(project):
    (project / "sub").mkdir()
    (project / "mine.py").rename(project / "sub" / "mine.py")
    (project / "sub" / "test_input.json").write_text('{"input": "beside", "id": "x"}')
    assert invoke(project, "sub/mine.py:echo").stdout == '"beside"\n'
    (project / "test_input.json").write_text('{"input": "here"}')
    assert invoke(project, "sub/mine.py:echo").stdout == '"here"\n'


def test_a_handler_that_leaves_nothing_prints_null(project):
    assert invoke(project, "mine.py:nothing", "-i", "1").stdout == "null\n"


def test_a_script_runs_with_the_real_sdk_and_quietly(folder):
    ended = invoke(folder, "script.py", "--input", '{"a": 1}')
    assert ended.stdout == '{"script":{"a":1},"file":"script.py"}\n'
    assert ended.stderr == ""
    assert ended.returncode == 0


def test_a_script_can_do_without_the_sdks_process(folder):
    ended = invoke(folder, "script.py", "-i", "1", "--worker-kind", "inline", "--json")
    body = json.loads(ended.stdout)
    assert body.keys() == {"delayTime", "executionTime", "id", "output", "status", "workerId"}
    assert body["output"] == {"script": 1, "file": "script.py"}


def test_a_function_runs_in_this_process(project):
    ended = invoke(project, "mine.py:where", "-i", "1", EMULATOR_WORKER_ENV_MODEL="tiny")
    assert ended.stdout == '["inline",null]\n'


def test_with_an_interpreter_it_runs_in_a_process_with_variables_and_verbose_tells_every_step(project):
    arguments = ["mine.py:where", "-i", "1", "--python", sys.executable, "--verbose"]
    ended = invoke(project, *arguments, EMULATOR_WORKER_ENV_MODEL="tiny")
    assert ended.stdout == '["process","tiny"]\n'
    assert "IN_PROGRESS → COMPLETED" in ended.stderr


# Streams


@contextmanager
def invoking(project, *arguments):
    """An `invoke` that goes on while the body runs; one that hangs is ended."""
    with subprocess.Popen(
        [sys.executable, "-m", "emulator", "invoke", *arguments],
        cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        overdue = threading.Timer(PATIENCE_S, process.kill)
        overdue.start()
        try:
            yield process
        finally:
            overdue.cancel()
            process.kill()


@BOTH_KINDS
def test_chunks_are_printed_as_they_come(project, kind):
    arguments = ["mine.py:streams", "--worker-kind", kind, "--input", '{"until": "read"}', "--stream"]
    with invoking(project, *arguments) as process:
        assert process.stdout.readline() == '{"n":1}\n'
        # The handler goes on only now.
        (project / "read").touch()
        assert process.communicate() == ('"two"\n', "")
    assert process.returncode == 0


def test_without_stream_a_streams_output_is_productions_and_a_note_says_what_to_do(project):
    (project / "read").touch()
    ended = invoke(project, "mine.py:streams", "-i", '{"until": "read"}')
    assert ended.stdout == "[]\n"
    assert ended.stderr == "note: the handler streamed 2 chunk(s): --stream prints them\n"


def test_a_stream_that_fails_prints_its_chunks_and_why(project):
    ended = invoke(project, "mine.py:stream_raises", "-i", "1", "--stream")
    assert ended.stdout == "1\n"
    assert ended.stderr.endswith("RuntimeError: in the stream\nerror: in the stream\n")
    assert ended.returncode == 1


def test_a_reader_that_has_read_enough_is_no_error(project):
    command = f"{sys.executable} -m emulator invoke mine.py:many -i 1 --stream | head -1"
    ended = subprocess.run(
        ["sh", "-c", command], cwd=project, env=environment(), capture_output=True, text=True,
        timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    assert ended.stdout == "0\n"
    assert "Traceback" not in ended.stderr


# Jobs that fail


@BOTH_KINDS
def test_an_exception_is_shown_once_with_the_handlers_own_lines(project, kind):
    ended = invoke(project, "mine.py:raises", "-i", "1", "--worker-kind", kind, "--json")
    body = json.loads(ended.stdout)
    assert json.loads(body["error"])["error_message"] == "bad thing\nand more"
    assert body.keys() == {"delayTime", "error", "executionTime", "id", "status", "workerId"}
    assert ended.stderr.startswith("about to fail\nTraceback (most recent call last):\n")
    assert ended.stderr.count("Traceback") == 1
    assert "mine.py" in ended.stderr
    assert "emulator" not in ended.stderr
    assert ended.stderr.endswith("ValueError: bad thing\nand more\nerror: ValueError: bad thing …\n")
    assert ended.returncode == 1


def test_a_reported_error_is_told_beside_what_is_left_of_the_output(project):
    ended = invoke(project, "mine.py:reports", "-i", "1")
    assert (ended.stdout, ended.stderr) == ('{"seen":1}\n', "error: no such model\n")
    assert ended.returncode == 1


def test_a_worker_that_dies_is_told_of_with_the_reason(project):
    ended = invoke(project, "mine.py:exits", "-i", "1", "--worker-kind", "process")
    # Production tries such a job twice.
    assert ended.stderr == (
        "dying\ndying\nerror: job timed out after 1 retries: its process ended with exit code 7\n"
    )
    assert ended.returncode == 1


def test_an_empty_input_fails_as_in_production_but_soon(project):
    ended = invoke(project, "mine.py:echo", "-i", "{}")
    assert ended.stderr == (
        "error: job timed out after 1 retries: its input is empty, so the worker never received it\n"
    )
    assert ended.returncode == 1


# Nothing is run


@BOTH_KINDS
def test_a_handler_that_does_not_load_shows_where(project, kind):
    (project / "broken.py").write_text("import os\nos.no_such_thing\ndef handler(job):\n    return 1\n")
    ended = invoke(project, "broken.py:handler", "-i", "1", "--worker-kind", kind)
    assert "AttributeError: module 'os' has no attribute 'no_such_thing'" in ended.stderr
    assert 'broken.py", line 2' in ended.stderr
    assert ended.stderr.count("Traceback") == 1
    said = (
        "broken.py:handler failed to load" if kind == "inline" else "the worker did not start: AttributeError"
    )
    assert f"error: {said}" in ended.stderr
    assert (ended.stdout, ended.returncode) == ("", 2)


USAGE = [
    (["mine.py:echo"], "there is no input: give one with --input (there is no test_input.json here)"),
    (["mine.py:nope", "-i", "1"], "mine.py:nope: there is no nope in it; it defines: blocks, chatty"),
    (["none.py", "-i", "1"], "none.py: no such file (looked in "),
    (["none:f", "-i", "1"], "none:f: there is no module 'none', neither in "),
    (["mine", "-i", "1"], "mine: name a file (handler.py), file and function"),
    (["mine.py", "-i", "1"], "mine.py never calls runpod.serverless.start"),
    (["mine.py:echo", "-i", "{bad"], "--input: not valid JSON: Expecting property name"),
    (["mine.py:echo", "-i", "hello"], "(a text is quoted: --input '\"hello\"')"),
    (["mine.py:echo", "-i", "[1, NaN]"], "--input: not valid JSON: NaN is not a JSON value"),
    (["mine.py:echo", "-i", "null"], "--input is null: a job needs an input"),
    (["mine.py:echo", "-i", "@none.json"], "cannot read none.json: No such file or directory"),
    (["mine.py:echo", "-i", "1", "--timeout", "soon"], "--timeout: 'soon' is not a duration"),
    (["mine.py:echo", "-i", "1", "--timeout", "0"], "--timeout is 0: it must be above 0"),
    (["mine.py:echo", "-i", "1", "--python", "none"], "python is 'none': there is no such interpreter"),
    (
        ["mine.py:echo", "-i", "1", "--python", "python3", "--worker-kind", "inline"],
        "--python is the interpreter of a process: it does not go with --worker-kind inline",
    ),
]
#: Runs the command once for each list of arguments, as a start of Python takes longer than all of them.
ONE_BY_ONE = """\
import contextlib, io, json, sys
from emulator.cli import cli
for arguments in json.loads(sys.argv[1]):
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(out):
        try:
            cli(["invoke", *arguments])
        except SystemExit as end:
            code = end.code
    print(json.dumps([out.getvalue(), errors.getvalue(), code]))
"""


def test_wrong_usage_is_one_sentence(project):
    ended = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE, json.dumps([arguments for arguments, _ in USAGE])],
        cwd=project, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    said = [json.loads(line) for line in ended.stdout.splitlines()]
    for (arguments, sentence), (out, errors, code) in zip(USAGE, said, strict=True):
        assert errors.startswith("error: "), arguments
        assert sentence in errors
        assert errors.count("\n") == 1, errors
        assert (out, code) == ("", 2), arguments


# Jobs that are ended


@pytest.mark.parametrize(
    ("function", "kind"),
    [("sleeps", "inline"), ("blocks", "inline"), ("sleeps", "process")],
)
def test_a_handler_that_takes_too_long_is_ended(project, function, kind):
    arguments = ["-i", "1", "--timeout", "3s", "--worker-kind", kind]
    ended = invoke(project, f"mine.py:{function}", *arguments)
    assert ended.stderr == "sleeping\nerror: timed out: the handler was not done after 3 s (--timeout)\n"
    assert (ended.stdout, ended.returncode) == ("", 4)
    if (project / "pid").exists():
        assert not is_alive(int((project / "pid").read_text()))


@pytest.mark.parametrize(
    ("kind", "number"),
    [("inline", signal.SIGINT), ("process", signal.SIGINT), ("process", signal.SIGTERM)],
)
def test_ctrl_c_ends_the_handler_too(project, kind, number):
    with invoking(project, "mine.py:sleeps", "-i", "1", "--worker-kind", kind) as process:
        assert process.stderr.readline() == "sleeping\n"
        process.send_signal(number)
        assert process.communicate() == ("", "interrupted\n")
    assert process.returncode == 128 + number
    assert not is_alive(int((project / "pid").read_text()))


def test_a_second_ctrl_c_does_not_wait_for_a_handler_that_blocks_everything(project):
    with invoking(project, "mine.py:blocks", "-i", "1") as process:
        assert process.stderr.readline() == "sleeping\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "interrupted\n"
        # The first ends it after a while, as what it is itself.
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
