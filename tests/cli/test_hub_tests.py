"""`runpod-emulator test`: the Hub's test files, from the file to the reports."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest

from emulator.cli.hub_expectations import differences, judge_output
from emulator.cli.hub_results import HubResult, Verdict, report_junit
from emulator.cli.hub_test_files import MISSING, TEST_FILES, BadTestFile, HubTest, read_test_file
from tests.cli.command import environment, run
from tests.limits import PATIENCE_S
from tests.processes import is_alive

HANDLER = """\
import os, time

def handler(job):
    wish = job["input"]
    print("working on", wish)
    if wish == "raise":
        raise KeyError("no [bold]such[/bold] key")
    if wish == "sleep":
        with open("pid", "w") as file:
            file.write(str(os.getpid()))
        print("sleeping", flush=True)
        time.sleep(60)
    return {"wish": wish, "model": os.environ.get("MODEL"), "pid": os.getpid()}
"""
SCRIPT = HANDLER + '\nimport runpod\nrunpod.serverless.start({"handler": handler})\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a bare function, which starts faster than the SDK."""
    (tmp_path / "mine.py").write_text(HANDLER)
    return tmp_path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def hub_test(project, *arguments):
    # Without the width that a parallel run of these tests may have given.
    return run(project, "test", *arguments, "--handler", "mine.py:handler", COLUMNS="")


def rows(table: str) -> dict[str, list[str]]:
    """The table's cells by the test's name: result, time and the first line of why."""
    cells = [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in table.splitlines()]
    return {row[0]: row[1:] for row in cells if len(row) > 1}


# Running


def test_outputs_may_have_more_than_expected_if_that_is_wanted_and_where_runpod_differs_is_noted(project):
    write(
        project / "tests.json",
        [
            {"id": "part", "input": "a", "output": {"wish": "a"}},
            {"id": "wrong", "input": "a", "expectedOutput": {"wish": "b"}},
        ],
    )
    lets_pass = (
        "note: Runpod's own runner lets such a test pass: it only counts which outputs are as expected"
    )
    ended = hub_test(project, "--match", "subset")
    results = rows(ended.stdout)
    assert (results["part"][0], results["wrong"][0], results["wrong"][2]) == (
        "passed", "failed", 'output.wish: expected "b", got "a"'
    )  # fmt: skip
    assert "note: Runpod's own runner does not count this output as the expected one" in ended.stderr
    assert f"{lets_pass} (wrong)" in ended.stderr
    ended = hub_test(project)
    assert rows(ended.stdout)["part"][0] == "failed"
    assert f"{lets_pass} (part, wrong)" in ended.stderr


def test_all_that_can_become_of_a_test_is_in_the_table_and_in_the_report_for_ci(project):
    write(
        project / "tests.json",
        {
            "tests": [
                {"name": "plain [red]name", "input": "a", "timeout": 300_000},
                {"name": "other", "input": "b", "expected_output": {"wish": "c", "model": "tiny", "pid": 0}},
                {"name": "raises", "input": "raise"},
                {"name": "endless", "input": "sleep", "timeout": 3000},
                {"name": "after", "input": "d"},
            ],
            "config": {"gpuTypeId": "any", "env": [{"key": "MODEL", "value": "tiny"}]},
        },
    )
    ended = hub_test(project, "--junit", "reports/junit.xml")
    assert ended.returncode == 1

    table = rows(ended.stdout)
    assert table["plain [red]name"][0] == "passed"
    assert table["other"][0::2] == ["failed", 'output.wish: expected "c", got "b"']
    assert "output.pid: expected 0, got " in ended.stdout
    assert "output.model" not in ended.stdout
    assert table["raises"][0::2] == ["failed", "KeyError: 'no [bold]such[/bold] key'"]
    assert table["endless"][0::2] == ["timed out", "not done after 3000 ms: it was stopped"]
    assert float(table["endless"][1].removesuffix(" s")) >= 3
    assert table["after"][0] == "passed"
    assert ended.stdout.splitlines()[-1].startswith("2 passed, 2 failed, 1 timed out in ")
    assert "\x1b" not in ended.stdout

    shown = ended.stderr.partition("\n--- raises ---\n")[2]
    assert shown.startswith("working on raise\nTraceback (most recent call last):\n")
    assert "--- endless ---\nworking on sleep\nsleeping\n" in shown
    assert "working on a" not in ended.stderr
    assert not is_alive(int((project / "pid").read_text()))

    suite = ElementTree.parse(project / "reports" / "junit.xml").getroot()[0]
    assert {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped")} == {
        "name": "tests.json", "tests": "5", "failures": "3", "errors": "0", "skipped": "0",
    }  # fmt: skip
    cases = {case.get("name"): case for case in suite}
    assert cases["plain [red]name"].find("failure") is None
    assert cases["plain [red]name"].findtext("system-out") == "working on a"
    assert cases["other"].find("failure").get("message") == 'output.wish: expected "c", got "b"'
    assert "KeyError" in cases["raises"].findtext("failure")
    assert cases["endless"].find("failure").get("type") == "timed out"
    assert float(cases["endless"].get("time")) >= 3


def test_one_worker_runs_all_and_a_program_reads_the_results(project):
    content = [{"input": "a"}, {"name": "second", "input": "b", "expected_output": 1}]
    write(project / "my.json", content)
    ended = hub_test(project, "my.json", "--json")
    document = json.loads(ended.stdout)
    assert (document["file"], document["handler"]) == ("my.json", "mine.py:handler")
    assert document["summary"] == {"passed": 1, "failed": 1, "timed_out": 0, "error": 0, "skipped": 0}
    first, second = document["tests"]
    assert (first["name"], first["result"], first["why"]) == ("test 1", "passed", [])
    assert first["job"]["status"] == "COMPLETED"
    assert first["job"]["output"]["wish"] == "a"
    assert first["printed"] == ["working on a"]
    assert second["why"][0].startswith('output: expected 1, got {"wish": "b"')
    assert first["job"]["output"]["pid"] == second["job"]["output"]["pid"]
    assert ended.returncode == 1


def test_a_script_runs_with_the_real_sdk_and_the_files_variables(tmp_path):
    (tmp_path / "handler.py").write_text(SCRIPT)
    env = [{"key": "MODEL", "value": "tiny"}]
    write(
        tmp_path / ".runpod" / "tests.json",
        {"tests": [{"name": "sdk", "input": "a"}], "config": {"env": env}},
    )
    write(tmp_path / "tests.json", [{"input": "not this file"}])
    ended = run(tmp_path, "test", "--json")
    document = json.loads(ended.stdout)
    assert (document["file"], document["handler"]) == (".runpod/tests.json", "handler.py")
    assert document["tests"][0]["job"]["output"]["model"] == "tiny"
    assert document["tests"][0]["printed"] == ["working on a"]
    assert (ended.stderr, ended.returncode) == ("test 1/1: sdk\n", 0)


def test_the_first_failure_of_those_selected_is_the_last_that_runs(project):
    named = {"Big first": "raise", "small": "b", "a big one": "c"}
    write(project / "tests.json", [{"name": name, "input": wish} for name, wish in named.items()])
    ended = hub_test(project, "-k", "BIG", "--fail-fast", "--junit", "out.xml")
    table = rows(ended.stdout)
    assert list(table) == ["test", "Big first", "a big one"]
    assert table["a big one"] == ["skipped", "'Big first' did not pass (--fail-fast)"]
    assert ended.stdout.splitlines()[-1].startswith("1 failed, 1 skipped in ")
    assert "working on c" not in (project / "out.xml").read_text()
    suite = ElementTree.parse(project / "out.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("skipped")) == ("2", "1")
    assert ended.returncode == 1


def test_time_outs_alone_have_a_code_of_their_own(project):
    write(project / "tests.json", [{"input": "sleep", "timeout": 3000}])
    assert hub_test(project).returncode == 4
    assert not is_alive(int((project / "pid").read_text()))


def test_a_worker_that_does_not_start_is_an_error_of_the_first_test(project):
    (project / "mine.py").write_text("raise RuntimeError('no model')\ndef handler(job):\n    return 1\n")
    write(project / "tests.json", [{"input": "a"}, {"input": "b"}])
    ended = hub_test(project, "--junit", "out.xml")
    table = rows(ended.stdout)
    assert table["test 1"] == ["error", "the worker did not start: RuntimeError: no model (mine.py, line 1)"]
    assert table["test 2"] == ["skipped", "the worker did not start"]
    assert "RuntimeError: no model" in ended.stderr
    assert ElementTree.parse(project / "out.xml").getroot()[0].get("errors") == "1"
    assert ended.returncode == 2


STUCK = """\
import os, time

while os.path.exists("stuck"):
    time.sleep(0.1)

def handler(job):
    if job["input"] == "die":
        open("stuck", "w").close()
        os._exit(7)
    return job["input"]
"""
NOT_WITHIN = (
    "the worker did not start: it has not asked for a job within 5 s"
    " (RUNPOD_INIT_TIMEOUT among its variables sets another limit); it was replaced"
)


def test_a_worker_that_never_asks_for_a_job_is_given_up(project):
    (project / "mine.py").write_text(STUCK)
    (project / "stuck").touch()
    tests = [{"name": "first", "input": "a"}, {"name": "second", "input": "b"}]
    env = [{"key": "RUNPOD_INIT_TIMEOUT", "value": "5"}]
    write(project / "tests.json", {"tests": tests, "config": {"env": env}})
    ended = hub_test(project, "--json")
    results = [(test["result"], test["why"]) for test in json.loads(ended.stdout)["tests"]]
    assert results == [("error", [NOT_WITHIN]), ("skipped", ["the worker did not start"])]
    assert ended.returncode == 2


def test_a_job_that_was_lost_and_is_not_taken_again_is_given_up(project):
    (project / "mine.py").write_text(STUCK)
    names = ["well", "die", "not taken", "nor this", "not tried"]
    tests = [{"name": name, "input": name} for name in names]
    env = [{"key": "RUNPOD_INIT_TIMEOUT", "value": "5"}]
    write(project / "tests.json", {"tests": tests, "config": {"env": env}})
    ended = hub_test(project, "--json")
    results = {test["name"]: (test["result"], *test["why"]) for test in json.loads(ended.stdout)["tests"]}
    assert results == {
        "well": ("passed",),
        "die": (
            "failed",
            f"it was lost (its process ended with exit code 7), then not taken again: {NOT_WITHIN}",
        ),
        "not taken": ("error", NOT_WITHIN),
        "nor this": ("error", NOT_WITHIN),
        "not tried": ("skipped", "no worker took the two tests before"),
    }
    assert ended.returncode == 1


def test_ctrl_c_ends_the_worker(project):
    write(project / "tests.json", [{"input": "sleep"}])
    command = [sys.executable, "-m", "emulator", "test", "--handler", "mine.py:handler", "--verbose"]
    with subprocess.Popen(
        command, cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        overdue = threading.Timer(PATIENCE_S, process.kill)
        overdue.start()
        while "│ sleeping" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate()
        overdue.cancel()
    assert (out, process.returncode) == ("", 130)
    assert "interrupted\n" in errors
    assert "Traceback" not in errors
    assert not is_alive(int((project / "pid").read_text()))


# What is run


#: Runs the command once for each list of arguments, as a start of Python takes longer than all of them;
#: for a string it removes a file.
ONE_BY_ONE = """\
import contextlib, io, json, os, sys
from emulator.cli import cli
for arguments in json.loads(sys.argv[1]):
    if isinstance(arguments, str):
        os.remove(arguments)
        continue
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            cli(["test", *arguments])
        except SystemExit as end:
            print(json.dumps([errors.getvalue(), end.code]))
"""


def one_by_one(project, steps):
    """What each run of the command wrote to standard error, and its exit code."""
    ended = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE, json.dumps(steps)],
        cwd=project, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_what_cannot_be_run_is_one_sentence(project):
    write(project / "bad.json", {"tests": [{"input": 1}, {"input": 1}, {"input": 1, "timeout": "10s"}]})
    write(project / "good.json", [{"name": "one", "input": 1}])
    (project / "folder").mkdir()
    good = ["good.json", "--handler", "mine.py:handler"]
    cases = {
        ("bad.json",): 'bad.json: tests[2].timeout: must be a number of ms, not "10s"',
        (): f"there is no test file: looked for {', '.join(TEST_FILES)} in {project}",
        ("none.json",): "cannot read none.json: No such file or directory",
        ("good.json",): "there is no handler: looked for handler.py, rp_handler.py, src/handler.py,"
        " src/rp_handler.py in ",
        ("good.json", "--handler", "mine.py"): "mine.py never calls runpod.serverless.start",
        ("good.json", "--handler", "none.py:f"): "none.py: no such file",
        (*good, "-k", "two"): "good.json: no test's name contains 'two': there is 'one'",
        (*good, "--junit", "folder"): "--junit: folder is a folder: name a file in it",
        (*good, "--junit", "mine.py/x.xml"): "--junit: cannot make the folder of mine.py/x.xml",
        (*good, "--python", "none"): "python is 'none': there is no such interpreter",
    }
    said = one_by_one(project, list(cases))
    for sentence, (errors, code) in zip(cases.values(), said, strict=True):
        assert errors.startswith(f"error: {sentence}")
        assert errors.count("\n") == 1, errors
        assert code == 2, errors


def test_the_first_test_file_and_the_first_handler_are_taken(project):
    files = [".runpod/tests.json", ".github/tests.json", "tests.json", "test_input.json"]
    handlers = ["handler.py", "rp_handler.py", "src/handler.py", "src/rp_handler.py"]
    for path in (*files, *handlers):
        write(project / path, {"neither": "tests", "nor": "a handler"})
    write(project / "any.json", [{"input": 1}])
    by_file = [step for file in files for step in ([], file)]
    by_handler = [step for handler in handlers for step in (["any.json"], handler)]
    said = [errors for errors, _ in one_by_one(project, by_file + by_handler)]
    assert [line.split()[1] for line in said[:4]] == [f"{file}:" for file in files]
    assert [line.split()[1] for line in said[4:]] == handlers


# Reading


def test_the_hubs_own_form_is_read(tmp_path):
    file = read_test_file(
        write(
            tmp_path / "tests.json",
            {
                "tests": [{"name": "a", "input": {}, "timeout": 1500.2}, {"input": [], "timeout": None}],
                "config": {"env": [{"key": "A", "value": ""}, {"key": "B", "value": "b=c"}]},
            },
        )
    )
    assert file.tests == (
        HubTest(name="a", input={}, timeout_ms=1501),
        HubTest(name="test 2", input=[], timeout_ms=None),
    )
    assert file.env == {"A": "", "B": "b=c"}
    assert file.warnings == ()


def test_an_array_and_a_single_test_are_read(tmp_path):
    array = read_test_file(write(tmp_path / "a.json", [{"input": 0, "expected_output": None}]))
    assert array.tests == (HubTest(name="test 1", input=0, expected_output=None),)
    single = read_test_file(write(tmp_path / "test_input.json", {"input": "x", "webhook": "u", "id": "1"}))
    assert single.tests == (HubTest(name="test_input.json", input="x"),)
    assert single.warnings == ()


def test_a_byte_order_mark_is_no_fault(tmp_path):
    (tmp_path / "t.json").write_bytes(b'\xef\xbb\xbf{"input": 1}')
    assert read_test_file(tmp_path / "t.json").tests[0].input == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[1,", "t.json: not valid JSON: Expecting value at line 1, column 4"),
        ('{"input": NaN}', "t.json: not valid JSON: NaN is not a JSON value"),
        ("[" * 100_000, "t.json: not valid JSON: maximum recursion depth exceeded"),
        ("3", "t.json: must be an object or an array of tests, not 3"),
        ("[]", "t.json: has no tests"),
        ('{"tests": {}}', "t.json: tests: must be an array, not {}"),
        ('{"name": "x"}', 't.json: must have either "tests" or an "input"'),
        ('{"test": 1}', 't.json: must have either "tests" or an "input" (test has no effect: did you mean t'),
        ('{"tests": [1]}', 't.json: tests[0]: must be an object like {"input": …}, not 1'),
        ("[1]", 't.json: [0]: must be an object like {"input": …}, not 1'),
        ('{"tests": [{"name": "x"}]}', "t.json: tests[0].input: missing"),
        ('[{"inputs": 1}]', "t.json: [0].input: missing (inputs has no effect: did you mean input?)"),
        ('{"input": null}', "t.json: input: is null: a job needs an input"),
        ('[{"input": 1, "name": 2}]', "t.json: [0].name: must be a string, not 2"),
        ('{"input": 1, "timeout": true}', "t.json: timeout: must be a number of ms, not true"),
        ('{"input": 1, "timeout": 0}', "t.json: timeout: is 0: it must be above 0 ms"),
        ('{"tests": [{"input": 1}], "config": []}', "t.json: config: must be an object, not []"),
        ('{"tests": [{"input": 1}], "config": {"env": {"A": "b"}}}', "t.json: config.env: must be an array"),
        ('{"tests": [{"input": 1}], "config": {"env": ["A"]}}', "t.json: config.env[0]: must be an object"),
        (
            '{"tests": [{"input": 1}], "config": {"env": [{"key": "A=", "value": "b"}]}}',
            't.json: config.env[0].key: must be a variable\'s name, not "A="',
        ),
        (
            '{"tests": [{"input": 1}], "config": {"env": [{"key": "A", "value": 1}]}}',
            "t.json: config.env[0].value: must be a string, not 1",
        ),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(tmp_path, monkeypatch, content, sentence):
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_text(content)
    with pytest.raises(BadTestFile) as fault:
        read_test_file(Path("t.json"))
    assert str(fault.value).startswith(sentence)
    assert "\n" not in str(fault.value)


def test_an_expectation_that_is_misspelt_is_warned_of(tmp_path):
    path = write(
        tmp_path / "t.json", {"tests": [{"input": 1, "expected_ouput": 2, "time_out": 3, "other": 4}]}
    )
    assert read_test_file(path).warnings == (
        f"{path}: tests[0].expected_ouput has no effect: did you mean expected_output?",
        f"{path}: tests[0].time_out has no effect: did you mean timeout?",
    )


def test_the_keys_of_runpods_own_runner_are_read(tmp_path):
    path = write(
        tmp_path / "t.json",
        [
            {"input": 1, "expectedOutput": 2, "output": 3, "id": "two"},
            {"input": 1, "output": 3, "id": 7},
            {"input": 1, "expectedOutput": None, "output": None, "id": "x", "name": "own"},
            {"input": 1, "expected_output": None, "expectedOutput": 2},
        ],
    )
    file = read_test_file(path)
    assert [test.expected_output for test in file.tests] == [2, 3, MISSING, None]
    assert [test.name for test in file.tests] == ["two", "test 2", "own", "test 4"]
    assert file.warnings == ()


def test_what_would_run_something_else_is_named(tmp_path):
    hardware = {
        "templateConfig": {"dockerArgs": "python -u x.py", "env": []},
        "endpointConfig": {"gpuIds": "A"},
    }
    path = write(tmp_path / "t.json", [{"input": 1, "hardwareConfig": hardware}])
    assert read_test_file(path).warnings == (
        f"{path}: [0].hardwareConfig.templateConfig.dockerArgs has no effect: give what it runs with"
        " --command",
    )


# Judging


@pytest.mark.parametrize(
    ("expected", "got", "sentences"),
    [
        ({"a": [1, 2.0, None]}, {"a": [1.0, 2, None]}, []),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        (True, 1, ["output: expected true, got 1"]),
        (0, False, ["output: expected 0, got false"]),
        (None, MISSING, ["output: expected null, but it is missing"]),
        ([1], [1, 2], ["output[1]: not expected, got 2"]),
        ([[1, 2]], [[1]], ["output[0][1]: expected 2, but it is missing"]),
        ({"a b": {"c": "x"}}, {"a b": {"c": "y"}}, ['output["a b"].c: expected "x", got "y"']),
        ({"a": {}}, {"a": []}, ["output.a: expected {}, got []"]),
        ("x" * 200, "x" * 100 + "y" * 100, [f'output: expected "…{"x" * 59}…, got "…{"x" * 20}{"y" * 39}…']),
        (1, "z" * 100, [f'output: expected 1, got "{"z" * 59}…']),
    ],
)
def test_differences_name_the_place_and_both_values(expected, got, sentences):
    assert [str(difference) for difference in differences(expected, got)] == sentences


def test_only_a_test_that_expects_an_output_has_one_to_differ():
    assert judge_output(HubTest(name="a", input=1), {"any": "output"}) == ()
    many = judge_output(HubTest(name="a", input=1, expected_output=list(range(20))), [])
    assert many[-1] == "… and 12 more"
    assert len(many) == 9


def test_a_report_holds_what_xml_cannot():
    result = HubResult(
        test=HubTest(name="\x1b[31m<name>", input=1),
        verdict=Verdict.FAILED,
        why=("a\0b",),
        printed=["\ud800&"],
    )
    [case] = ElementTree.fromstring(report_junit(Path("t.json"), [result], 1234))[0]
    assert case.get("name") == "�[31m<name>"
    assert case.findtext("failure") == "a�b"
    assert case.findtext("system-out") == "�&"
