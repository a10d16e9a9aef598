"""Runs commands in forks of a process that has loaded their modules: to load them is most of what one does.

As a program it reads one command a line, and writes its exit code once it has ended.
"""

from __future__ import annotations

import atexit
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, suppress
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path

import emulator.cli
from tests.limits import PATIENCE_S

ROOT = Path(__file__).parents[2]


def run_in_fork(
    arguments: tuple[str, ...], folder: Path, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `python -m emulator ARGUMENTS` in a folder, with these variables alone."""
    program = _program()
    assert program.stdin is not None
    assert program.stdout is not None
    with tempfile.TemporaryDirectory() as written:
        out, errors = Path(written, "out"), Path(written, "errors")
        command = [arguments, str(folder), variables, str(out), str(errors)]
        program.stdin.write(json.dumps(command) + "\n")
        program.stdin.flush()
        code = int(program.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, out.read_text(), errors.read_text())


@cache
def _program() -> subprocess.Popen[str]:
    program = subprocess.Popen(
        [sys.executable, "-m", __name__], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(program.communicate)
    return program


def main() -> None:
    """Load everything, then fork for each line."""
    for module in pkgutil.iter_modules(emulator.cli.__path__, "emulator.cli."):
        import_module(module.name)
    import_module("emulator.emulator")
    # What only a command loads, when it runs; this one finds nobody.
    with suppress(SystemExit), redirect_stderr(StringIO()):
        emulator.cli.cli(["jobs", "--url", "http://127.0.0.1:9"])
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            _become(*json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(arguments: list[str], folder: str, variables: dict[str, str], out: str, errors: str) -> None:
    """Be the command: what it raises ends this process, as it would end that of the command."""
    signal.alarm(PATIENCE_S)
    for number, path, flags in ((0, os.devnull, 0), (1, out, os.O_WRONLY), (2, errors, os.O_WRONLY)):
        file = os.open(path, flags | (os.O_CREAT if flags else 0))
        os.dup2(file, number)
        os.close(file)
    # What it has read ahead is for its parent.
    sys.stdin = os.fdopen(0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["emulator", *arguments]
    sys.path[0] = folder
    runpy.run_module("emulator", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
