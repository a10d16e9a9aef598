"""A folder in which the blocks of one page are run in order, as a reader would type them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tests import quick_pytest
from tests.conformance.js_client import node
from tests.conformance.served import HERE as NODE_PROJECT
from tests.conformance.served import Served, environment, served
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from contextlib import ExitStack

    from tests.docs.pages import Block

#: Where the pages say that the emulator is.
PAGES_URL = "http://127.0.0.1:8000"
#: The languages of the blocks that are run.
RUN = ("sh", "python", "javascript")

_CLIENT = re.compile(r"import runpod|RUNPOD_(ENDPOINT_BASE_URL|API_KEY)")
_TESTS = re.compile(r"^(?:    )?(?:async )?def test_", re.MULTILINE)


class Bench:
    """Runs blocks.

    A block whose first line is a file's name in a comment (`# handler.py`) is saved under it. What needs an
    emulator gets one that serves the folder's handler.py, if there is one by then, else handlers/echo.py.
    """

    def __init__(self, home: Path, log_home: Path, ended: ExitStack) -> None:
        self._home = home
        self._log_home = log_home
        self._ended = ended

    @cached_property
    def emulator(self) -> Served:
        own = self._home / "handler.py"
        handler = str(own) if own.is_file() else "handlers/echo.py"
        return self._ended.enter_context(served(self._log_home, handler, "--worker-kind", "inline"))

    def run(self, block: Block) -> str:
        """What it prints, once it has ended well."""
        is_test = block.language == "python" and _TESTS.search(block.code)
        names_it = PAGES_URL in block.code
        # A test has an emulator of its own, unless it names this one.
        needs_emulator = names_it or (_CLIENT.search(block.code) is not None and not is_test)
        code = block.code.replace(PAGES_URL, self.emulator.url) if names_it else block.code
        match block.language:
            case "sh":
                # A reader's shell goes on after a command that fails; here that is a failed block.
                command = ["sh", "-euc", code]
            case "javascript":
                self._link_node_modules()
                command = [node(), self._save(block, code, f"line_{block.line}.mjs")]
            case _ if is_test:
                name = self._save(block, code, f"test_line_{block.line}.py")
                command = [sys.executable, "-m", "pytest", "-q", *quick_pytest.ARGUMENTS, name]
            case _:
                command = [sys.executable, self._save(block, code, f"line_{block.line}.py")]
                if "runpod.serverless.start(" in code:
                    return ""  # A worker's program, which the emulator runs.
        variables = self._environment(needs_emulator=needs_emulator)
        if is_test:
            variables |= quick_pytest.VARIABLES
        done = subprocess.run(
            command,
            cwd=self._home,
            env=variables,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{block}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def save(self, block: Block) -> None:
        """Write down a block that is not run, if it is a file."""
        if block.file_name is not None:
            self._save(block, block.code, "")

    def _save(self, block: Block, code: str, otherwise: str) -> str:
        name = block.file_name or otherwise
        path = self._home / name
        assert path.resolve().is_relative_to(self._home.resolve()), name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
        return name

    def _link_node_modules(self) -> None:
        link = self._home / "node_modules"
        if not link.exists():
            link.symlink_to(NODE_PROJECT / "node_modules", target_is_directory=True)

    def _environment(self, *, needs_emulator: bool) -> dict[str, str]:
        variables = environment(self._home, PYTHONDONTWRITEBYTECODE="1")
        # A block that runs pytest is no part of the run that this test belongs to.
        variables = {name: value for name, value in variables.items() if not name.startswith("PYTEST_")}
        # The commands of the environment that the tests run in: runpod-emulator, python.
        variables["PATH"] = str(Path(sys.executable).parent) + os.pathsep + variables["PATH"]
        if needs_emulator:
            variables |= {"RUNPOD_ENDPOINT_BASE_URL": self.emulator.base_url, "RUNPOD_API_KEY": "anything"}
        return variables
