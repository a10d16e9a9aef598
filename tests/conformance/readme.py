"""The examples in README.md: its fenced blocks, as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conformance.js_client import node
from tests.conformance.served import HERE, ROOT, Served, environment
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

#: Where README.md says that the emulator is.
README_URL = "http://127.0.0.1:8000"
#: The languages of the blocks that are run; ```console blocks set up what the tests have already.
RUN = ("sh", "python", "javascript")

_FENCED = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A block that is run."""

    language: str
    code: str
    #: Of README.md, where the block begins.
    line: int
    #: The answer shown in the ```json block after it, if there is one.
    shown: str | None

    def run(self, emulator: Served, home: Path) -> str:
        """What it prints, once it has ended well."""
        code = self.code.replace(README_URL, emulator.url)
        match self.language:
            case "sh":
                # A reader's shell goes on after a command that fails; here that is a failed example.
                command, cwd = ["sh", "-euc", code], home
            case "python" if "def test_" in code:
                (home / "test_example.py").write_text(code, encoding="utf-8")
                command, cwd = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], home
            case "python":
                command, cwd = [sys.executable, "-c", code], ROOT
            case _:
                command, cwd = [node(), "--input-type=module", "--eval", code], HERE
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment(home, RUNPOD_ENDPOINT_BASE_URL=emulator.base_url),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def examples() -> list[Example]:
    """All of them, in their order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = list(_FENCED.finditer(text))
    return [
        Example(
            language=block["language"],
            code=block["code"],
            line=text.count("\n", 0, block.start()) + 1,
            shown=after["code"] if after is not None and after["language"] == "json" else None,
        )
        for block, after in zip(blocks, [*blocks[1:], None], strict=True)
        if block["language"] in RUN
    ]
