"""The sentence for a worker process that does not start: what was wrong, where, and what to do."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.core.config import EndpointConfig
from emulator.workers.command import WorkerCommand
from emulator.workers.start_failure import headline, start_failure

PIP = "{python} -m pip install {package} (or name the interpreter that has it with --python)"


@pytest.fixture
def sentence(tmp_path):
    """Run a handler of a project as a worker is; gives the sentence for its end."""
    root = tmp_path / "project"

    def run(code, function="", lines=20, **files):
        files["src/handler.py"] = code
        for name, content in files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        (root / "requirements.txt").touch()
        command = WorkerCommand.of(EndpointConfig(handler=f"{root}/src/handler.py{function}"))
        ended = subprocess.run(command.arguments, cwd=command.folder, capture_output=True, text=True)
        written = ended.stderr.splitlines()[-lines:]
        return start_failure(command, ended.returncode, written).replace(str(root), "PROJECT")

    return run


@pytest.mark.parametrize("function", ["", ":handler"])
def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(sentence, function):
    assert sentence("import no_such_package\ndef handler(job): ...\n", function) == (
        "ModuleNotFoundError: No module named 'no_such_package': "
        + PIP.format(python=sys.executable, package="no_such_package")
    )


def test_a_port_that_is_taken_is_told_with_whose_network_it_is(sentence):
    code = "import socket\nsocket.create_server(('127.0.0.1', {port}))"
    with socket.create_server(("127.0.0.1", 0)) as other:
        told = sentence(code.format(port=other.getsockname()[1]))
    assert told.startswith("OSError: [Errno")
    assert "share this machine's network" in told
    assert "--workers-max 1" in told


def test_a_package_may_have_another_name_than_its_module():
    command = WorkerCommand.of(EndpointConfig(handler=__file__))
    lines = [
        "Traceback (most recent call last):",
        '  File "h.py", line 1, in <module>',
        "ModuleNotFoundError: No module named 'cv2'",
    ]
    assert "-m pip install opencv-python-headless (" in start_failure(command, 1, lines)


@pytest.mark.parametrize(
    ("code", "files", "told"),
    [
        ("import utils", {"utils.py": ""}, "it was looked for in PROJECT/src, and is in PROJECT: start with"),
        ("import lib.net", {"lib/net.py": ""}, "looked for in PROJECT/src, and is in PROJECT: start with"),
        ("import utils", {"src/lib/utils.py": ""}, "is in PROJECT/src/lib: start with PYTHONPATH="),
        ("import utlis", {"src/utils.py": ""}, "it was looked for in PROJECT/src: did you mean utils?"),
        (
            "import app.modle",
            {"src/app/__init__.py": "", "src/app/model.py": ""},
            "No module named 'app.modle': it was looked for in PROJECT/src/app: did you mean model?",
        ),
        ("import email.nothing", {}, "has 'email', but not this part of it: is it another version?"),
        ("import _not_built", {}, "it is a part of Python that"),
        (
            "from .model import x",
            {"src/model.py": ""},
            "no known parent package (handler.py, line 1): handler.py is a module of a package: run it as"
            ' one, with --workdir PROJECT --command "python -m src.handler", or name its function:'
            " src.handler:handler",
        ),
    ],
)  # fmt: skip
def test_what_is_the_projects_own_is_not_to_be_installed(sentence, code, files, told):
    said = sentence(code, **files)
    assert told in said
    assert "pip install" not in said


def test_a_package_that_the_project_requires_is_no_typo_of_a_module(sentence):
    said = sentence("import requestss", **{"src/requests_.py": "", "src/requirements.txt": "Requestss>=2\n"})
    assert "-m pip install requestss" in said


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def f():\n    raise ValueError('no model')\nf()\n", "ValueError: no model (handler.py, line 2)"),
        ("raise KeyError\n", "KeyError (handler.py, line 1)"),
        ("import json\njson.loads('{')\n", "(handler.py, line 2)"),
        ("raise RuntimeError('a: b\\nc: d')\n", "RuntimeError: a: b | c: d (handler.py, line 1)"),
        (
            "try:\n    1 / 0\nexcept Exception:\n    raise OSError('no disk') from None\n",
            "OSError: no disk (handler.py, line 4)",
        ),
        ("import broken\n", "SyntaxError: '(' was never closed (broken.py, line 1)"),
    ],
)
def test_an_exception_is_named_with_the_projects_own_line(sentence, code, told):
    assert sentence(code, **{"src/broken.py": "x = (\n"}).endswith(told)


def test_a_traceback_whose_beginning_is_lost(sentence):
    deep = "def f(n):\n    if n: f(n - 1)\n    raise ValueError('deep')\n"
    assert sentence(f"{deep}for i in range(3): pass\nf(3)\n", lines=5).startswith("ValueError: deep")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit(3)", "its process ended with exit code 3"),
        ("import sys; sys.exit('no key')", "its process ended with exit code 1; it wrote: no key"),
        ("import os; os.abort()", "its process was killed by SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", "its process was killed by SIGKILL (was it out of memory?)"),
    ],
)  # fmt: skip
def test_an_end_without_an_exception(sentence, code, told):
    assert sentence(code) == told


def test_a_script_that_ends_itself_is_told_how_it_would_serve(sentence):
    assert sentence("print('done')").startswith(
        "its process ended with exit code 0 and never asked for a job:"
        " does the script call runpod.serverless.start({'handler': …})?"
    )
    assert sentence("import sys\ndef handler(job): ...\nsys.exit(0)", ":handler") == (
        "its process ended with exit code 0 and never asked for a job"
    )


def test_the_headline_of_a_problem_that_shows_code():
    problem = "h.py failed to load:\n\n" + '  File "/p/h.py", line 2\n    x = (\n        ^\nSyntaxError: odd'
    assert headline(problem) == "h.py failed to load: SyntaxError: odd (h.py, line 2)"
    assert headline("h.py: no such file") == "h.py: no such file"


def test_files_that_a_worker_runs_at_its_start(tmp_path):
    from emulator.workers.imported_files import imported_files

    files = {
        "main.py": "import a.b\nfrom c import d\ndef f():\n    import later\ntry:\n    import e\nexcept: ...",
        "a/__init__.py": "from . import sibling",
        "a/sibling.py": "",
        "a/b.py": "from ..never import x",
        "c/d.py": "import main",
        "e.py": "x = (",
        "later.py": "",
        "never.py": "",
        "nobody.py": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    found = {
        str(Path(each).relative_to(tmp_path)) for each in imported_files(tmp_path / "main.py", [tmp_path])
    }
    assert found == {"main.py", "a/__init__.py", "a/sibling.py", "a/b.py", "c/d.py", "e.py", "never.py"}
