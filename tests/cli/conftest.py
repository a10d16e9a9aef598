"""What the command line's tests share."""

from pathlib import Path

import pytest

ECHO = """\
def handler(job):
    return job["input"]
"""

SCRIPT = """\
import os
import runpod

def handler(job):
    return {"script": job["input"], "file": os.path.basename(__file__)}

if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with two handlers: `echo.py:handler` and the script `script.py`."""
    (tmp_path / "echo.py").write_text(ECHO)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path
