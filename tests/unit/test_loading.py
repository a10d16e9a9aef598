"""Every way to name a handler, and a helpful sentence for every way in which that can go wrong."""

import argparse
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.workers.handler import Handler, HandlerError, HandlerKind
from emulator.workers.loading import load_handler, looks_async
from emulator.workers.progress import REPORTS
from tests.limits import PATIENCE_S

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _modules_as_they_were(monkeypatch):
    """Handlers may import their neighbours for good: undo that."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file and give its name, relative to the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="handler.py"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return name

    return write


def run(handler, input="hello"):
    return handler.function({"id": "some-id", "input": input})


SCRIPT = """
import runpod

def handler(job):
    return job["input"] + "!"
"""


# Scripts


def test_a_script_finds_the_version_of_the_sdk(write):
    script = 'import runpod\nrunpod.serverless.start({"handler": lambda job: runpod.__version__})'
    assert run(load_handler(write(script))) == importlib.metadata.version("runpod")


@pytest.mark.parametrize(
    "start",
    [
        'runpod.serverless.start({"handler": handler})',
        'if __name__ == "__main__":\n    runpod.serverless.start({"handler": handler})',
        'def main():\n    runpod.serverless.start({"handler": handler})\nmain()',
        'from runpod import serverless\nserverless.start({"handler": handler})',
        'from runpod.serverless import start\nstart({"handler": handler})',
        'import runpod.serverless\nrunpod.serverless.start({"handler": handler})',
    ],
)
def test_a_script_that_starts_the_sdk(write, start):
    handler = load_handler(write(f"{SCRIPT}\n{start}\n"))
    assert (run(handler), handler.kind, handler.name) == ("hello!", HandlerKind.SYNC, "handler.py")


def test_a_path_object_and_an_absolute_path(write, tmp_path):
    write(f'{SCRIPT}\nrunpod.serverless.start({{"handler": handler}})')
    assert run(load_handler(Path("handler.py"))) == "hello!"
    assert run(load_handler(str(tmp_path / "handler.py"))) == "hello!"


def test_the_config_of_start_is_honoured(write):
    handler = load_handler(
        write("""
import runpod

async def stream(job):
    yield 1

runpod.serverless.start({
    "handler": stream,
    "return_aggregate_stream": True,
    "refresh_worker": True,
    "concurrency_modifier": lambda current: current + 1,
})
""")
    )
    assert handler.kind is HandlerKind.ASYNC_GENERATOR
    assert (handler.return_aggregate_stream, handler.refresh_worker) == (True, True)
    assert handler.concurrency_modifier(2) == 3


def test_nothing_of_the_script_runs_after_start(write):
    handler = load_handler(
        write(f'{SCRIPT}\nrunpod.serverless.start({{"handler": handler}})\nraise SystemExit("never here")')
    )
    assert run(handler) == "hello!"


def test_progress_updates_of_a_script_reach_the_emulator(write):
    handler = load_handler(
        write("""
import runpod

def handler(job):
    runpod.serverless.progress_update(job, "half way")

runpod.serverless.start({"handler": handler})
""")
    )
    assert reported_by(handler) == ["half way"]


def reported_by(handler):
    heard = []
    REPORTS.receive("some-id", "some-worker", heard.append)
    try:
        run(handler)
    finally:
        REPORTS.forget("some-id", "some-worker")
    return heard


def test_progress_of_each_copy_of_a_handler_whose_neighbour_reports_it(write):
    write("import runpod\ndef tell(job):\n    runpod.serverless.progress_update(job, 'told')", "teller.py")
    write(
        "import runpod, teller\nrunpod.serverless.start({'handler': lambda job: teller.tell(job)})",
        "handler.py",
    )
    copies = [load_handler("handler.py") for _ in range(3)]
    assert [reported_by(copy) for copy in copies] == [["told"]] * 3


def test_a_neighbour_that_starts_the_sdk_for_each_copy_of_a_handler(write):
    write(
        "import runpod\ndef serve(function):\n    runpod.serverless.start({'handler': function})", "server.py"
    )
    write(
        "import server\nserver.serve(lambda job: job['input'])\nraise SystemExit('never here')", "handler.py"
    )
    assert [run(load_handler("handler.py")) for _ in range(3)] == ["hello"] * 3


def test_a_script_finds_its_neighbours_now_and_later(write):
    write("VALUE = 7", "pack/early.py")
    write("VALUE = 8", "pack/late.py")
    handler = load_handler(
        write(
            """
import runpod, early

def handler(job):
    import late
    return early.VALUE, late.VALUE

runpod.serverless.start({"handler": handler})
""",
            "pack/handler.py",
        )
    )
    assert run(handler) == (7, 8)


def test_two_scripts_may_have_neighbours_of_the_same_name(write):
    for folder in ("one", "two"):
        write(f"WHO = {folder!r}", f"{folder}/shared.py")
        write(
            "import runpod, shared\nrunpod.serverless.start({'handler': lambda job: shared.WHO})",
            f"{folder}/h.py",
        )
    first, second = load_handler("one/h.py"), load_handler("two/h.py")
    assert (run(first), run(second)) == ("one", "two")


def test_a_script_knows_where_it_is_and_sees_no_command_line_of_ours(write, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["runpod-emulator", "serve", "handler.py"])
    handler = load_handler(
        write("""
import argparse, runpod, sys

argparse.ArgumentParser().parse_args()
seen = (__file__, __name__, sys.argv)

runpod.serverless.start({"handler": lambda job: seen})
""")
    )
    assert run(handler) == (str(tmp_path / "handler.py"), "__main__", ["handler.py"])
    assert sys.argv == ["runpod-emulator", "serve", "handler.py"]


POSTPONED_ANNOTATIONS = """
from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import NamedTuple

import runpod
from pydantic import BaseModel

class Inner(BaseModel):
    number: int

class Outer(BaseModel):
    inner: Inner

@dataclass
class Settings:
    names: list[str] = field(default_factory=list)
    model: Outer | None = None

def handler(job):
    return Settings(["a"], Outer(inner=Inner(number=job["input"]))).model.inner.number

runpod.serverless.start({"handler": handler})
"""


@pytest.mark.parametrize("function", ["", ":handler"])
def test_classes_with_postponed_annotations_find_their_module(write, function):
    main = sys.modules["__main__"]
    handler = load_handler(write(POSTPONED_ANNOTATIONS) + function)
    assert run(handler, 7) == 7
    assert sys.modules["__main__"] is main


def test_a_script_does_not_leave_a_stand_in_for_the_sdk_behind(write):
    write(f'{SCRIPT}\nrunpod.serverless.start({{"handler": handler}})')
    before = {name for name in sys.modules if name.partition(".")[0] == "runpod"}
    load_handler("handler.py")
    assert {name for name in sys.modules if name.partition(".")[0] == "runpod"} == before


# Which thread it is to be loaded in


@pytest.mark.parametrize(
    ("text", "function", "expected"),
    [
        ("async def work(job): ...", ":work", True),
        ("async def work(job):\n    yield 1", ":work", True),
        ("def work(job):\n    async def inner(): ...", ":work", False),
        ("async def other(job): ...\ndef work(job): ...", ":work", False),
        ('async def work(job): ...\nstart({"handler": work})', "", True),
        ('async def work(job): ...\nconfig = {"handler": work}\nstart(config)', "", True),
        ('async def other(): ...\ndef work(job): ...\nstart({"handler": work})', "", False),
        ('from elsewhere import work\nstart({"handler": work})', "", False),
        ("async def work(job)", ":work", False),
    ],
)
def test_whether_a_file_looks_async(write, text, function, expected):
    assert looks_async(write(text) + function) is expected


def test_whether_a_module_looks_async(write):
    write("async def work(job): ...", "package_of_mine/jobs.py")
    assert looks_async("package_of_mine.jobs:work")
    assert not looks_async("no_such_module_of_anyones:work")


# A function in a file or module


def test_a_named_function_needs_no_start(write):
    handler = load_handler(write("async def work(job):\n    return 1") + ":work")
    assert (handler.kind, handler.name) == (HandlerKind.ASYNC, "handler.py:work")


def test_a_named_function_does_not_run_as_the_main_program(write):
    handler = load_handler(
        write(f'{SCRIPT}\nif __name__ == "__main__":\n    raise SystemExit("never here")') + ":handler"
    )
    assert run(handler) == "hello!"


def test_start_in_the_file_of_a_named_function_ends_nothing_and_gives_its_config(write):
    write(
        f"{SCRIPT}\nrunpod.serverless.start"
        '({"handler": handler, "refresh_worker": True})\ndef other(job):\n    return "other"'
    )
    assert load_handler("handler.py:handler").refresh_worker
    other = load_handler("handler.py:other")
    assert (run(other), other.refresh_worker) == ("other", False)


def test_a_function_in_a_module_of_the_current_folder(write):
    write("def work(job):\n    yield 1", "package_of_mine/jobs.py")
    handler = load_handler("package_of_mine.jobs:work")
    assert (handler.kind, handler.name) == (HandlerKind.GENERATOR, "package_of_mine.jobs:work")


def test_a_callable_is_taken_as_it_is():
    def work(job):
        return 1

    handler = load_handler(work)
    assert handler.function is work
    assert "work" in handler.name


def test_an_object_that_can_be_called_is_a_handler():
    class Work:
        def __call__(self, job):
            return 1

    assert load_handler(Work()).kind is HandlerKind.SYNC


# What goes wrong


def complaint_about(source):
    with pytest.raises(HandlerError) as refused:
        load_handler(source)
    return str(refused.value)


def test_a_missing_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complaint_about("nowhere.py") == f"nowhere.py: no such file (looked in {tmp_path})"
    assert complaint_about("nowhere.py:handler") == f"nowhere.py: no such file (looked in {tmp_path})"


def test_a_script_without_a_start_call(write):
    assert complaint_about(write("def handler(job):\n    return 1")) == (
        "handler.py never calls runpod.serverless.start({'handler': …}): add the call,"
        " or name the function: handler.py:handler"
    )


def test_a_start_call_with_the_handler_alone(write):
    assert complaint_about(write(f"{SCRIPT}\nrunpod.serverless.start(handler)")) == (
        "handler.py: runpod.serverless.start got a function, not a dict, which ends the SDK with a TypeError:"
        " write runpod.serverless.start({'handler': handler})"
    )


def test_a_start_call_without_a_handler(write):
    complaint = complaint_about(write("import runpod\nrunpod.serverless.start({})"))
    assert complaint.endswith("handler.py: runpod.serverless.start got no 'handler'")


def test_a_syntax_error(write):
    complaint = complaint_about(write("def handler(job)\n    return 1"))
    assert complaint.startswith("handler.py failed to load:")
    assert "line 1" in complaint
    assert "SyntaxError: expected ':'" in complaint


def test_a_file_that_is_no_text(write):
    Path("handler.py").write_bytes(b"\x00\xff\xfe")
    assert complaint_about("handler.py").startswith("handler.py failed to load:")


@pytest.mark.parametrize(
    "line", ["from runpod import RunPodLogger", "from runpod.serverless.utils import rp_download"]
)
def test_parts_of_the_sdk_where_it_is_not_installed(write, line):
    program = f"from emulator.workers.loading import load_handler; load_handler({write(line)!r})"
    # -S: without any installed package.
    python = [sys.executable, "-S", "-c", program]
    loaded = subprocess.run(
        python, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert "HandlerError: handler.py needs the package 'runpod', which is not installed here" in loaded.stderr
    assert "-m pip install runpod\n" in loaded.stderr


@pytest.mark.parametrize("function", ["", ":handler"])
def test_a_missing_package(write, function):
    complaint = complaint_about(write("import runpod\nimport no_such_package_of_anyones") + function)
    assert "needs the package 'no_such_package_of_anyones', which is not installed here" in complaint
    assert "-m pip install no_such_package_of_anyones" in complaint
    assert "line 2, in <module>" in complaint


def test_a_missing_package_in_a_module(write):
    write("import no_such_package_of_anyones\ndef work(job): ...", "jobs_of_mine.py")
    complaint = complaint_about("jobs_of_mine:work")
    assert "needs the package 'no_such_package_of_anyones', which is not installed here" in complaint


def test_code_that_raises_shows_the_users_lines_and_none_of_ours(write):
    complaint = complaint_about(write("def load():\n    raise RuntimeError('no GPU')\nload()"))
    assert complaint.startswith("handler.py failed to load:\n\nTraceback (most recent call last):")
    assert "in load" in complaint
    assert complaint.endswith("RuntimeError: no GPU")
    assert "loading.py" not in complaint


@pytest.mark.parametrize(("function", "code"), [("", "3"), (":handler", "'bye'")])
def test_a_script_that_exits(write, function, code):
    complaint = complaint_about(write(f"raise SystemExit({code})") + function)
    assert f"handler.py{function} ended itself (exit code {code.strip(chr(39))})" in complaint


def test_a_missing_function_lists_those_that_are_there(write):
    write("import os\nclass Model: ...\ndef work(job): ...\ndef _private(job): ...\nVALUE = 1")
    assert complaint_about("handler.py:wrok") == (
        "handler.py:wrok: there is no wrok in it; it defines: Model, work"
    )


def test_a_missing_function_in_a_file_without_any(write):
    assert complaint_about(write("VALUE = 1") + ":work").endswith("it defines: no functions")


def test_something_that_is_no_function(write):
    assert complaint_about(write("VALUE = 1") + ":VALUE") == (
        "handler.py:VALUE is a int, not a function that takes a job"
    )


def test_a_missing_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    complaint = complaint_about("no_such_module_of_anyones:work")
    assert "no_such_module_of_anyones" in complaint
    # It is a name that was mistaken, not a package to be installed.
    assert "needs the package" not in complaint


@pytest.mark.parametrize("source", ["handler", "handler.txt", "some/folder/", ""])
def test_what_names_neither_file_nor_function(source):
    assert "name a file (handler.py), file and function" in complaint_about(source)


@pytest.mark.parametrize("source", [None, 7, ["handler.py"]])
def test_what_is_no_name_at_all(source):
    assert complaint_about(source).startswith("a handler is a callable or a string like 'handler.py'")


def test_a_failed_load_leaves_the_interpreter_as_it_was(write):
    modules, arguments = dict(sys.modules), sys.argv
    complaint_about(write("import runpod, argparse\nraise RuntimeError"))
    assert sys.argv is arguments
    assert {name for name in sys.modules if name.startswith("runpod")} == {
        name for name in modules if name.startswith("runpod")
    }
    assert sys.modules["__main__"] is modules["__main__"]
    assert argparse is sys.modules["argparse"]
    assert Handler is sys.modules["emulator.workers.handler"].Handler
