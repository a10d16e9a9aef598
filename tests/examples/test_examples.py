"""The examples of test suites, run as a reader would run them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import quick_pytest
from tests.cli.command import environment, serving
from tests.limits import PATIENCE_S

ROOT = Path(__file__).parents[2]
UNITTEST = ROOT / "examples/unittest"
PYTEST = ROOT / "examples/pytest"
VITEST = ROOT / "examples/vitest"


def test_the_unittest_suite_passes():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "unittest", "discover", str(UNITTEST)],
        cwd=ROOT,
        env=environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)[1]) > 0
    assert done.stderr.endswith("\nOK\n"), "none may be skipped"


def test_the_pytest_suite_passes():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *quick_pytest.ARGUMENTS, str(PYTEST)],
        cwd=PYTEST,
        env=environment(PYTHONDONTWRITEBYTECODE="1", **quick_pytest.VARIABLES),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b\d+ passed in", done.stdout)
    assert "skipped" not in done.stdout


@pytest.fixture(scope="module")
def node():
    """The program that runs the example, whose packages are there."""
    program = shutil.which("node")
    if program is None:
        pytest.fail("node is not installed: install Node.js 20.19 or newer")
    if not (VITEST / "node_modules/.package-lock.json").exists():
        pytest.fail(f"its packages are missing: run `make test`, or `npm ci` in {VITEST}")
    return program


@pytest.fixture
def run_vitest(node, tmp_path):
    """Runs the suite with this PATH; returns the process and vitest's report."""

    def run(path, **variables):
        report = tmp_path / "report.json"
        done = subprocess.run(
            [node, "node_modules/vitest/vitest.mjs", "run", "--reporter=json", f"--outputFile={report}"],
            cwd=VITEST,
            env=environment(PATH=path, **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return done, json.loads(report.read_text()) if report.exists() else None

    return run


def assert_all_passed(done, report):
    assert done.returncode == 0, done.stdout
    assert report["success"]
    assert report["numTotalTests"] == report["numPassedTests"] > 0, "none may be skipped"


def test_the_vitest_suite_starts_an_emulator_and_ends_it(run_vitest, tmp_path):
    """It is found on the PATH; here a script that says which process it becomes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "runpod-emulator"
    pid_file = tmp_path / "pid"
    command.write_text(f'#!/bin/sh\necho $$ > "{pid_file}"\nexec "{sys.executable}" -m emulator "$@"\n')
    command.chmod(0o755)
    assert_all_passed(*run_vitest(f"{folder}:{os.defpath}"))
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_the_vitest_suite_uses_an_emulator_that_runs(run_vitest, tmp_path):
    with serving(tmp_path) as emulator:
        assert_all_passed(*run_vitest(os.defpath, EMULATOR_URL=f"{emulator.url}/"))
        assert emulator.logs("/runsync → 200")
        (left,) = emulator.get("/_emulator/endpoints")["endpoints"]
        assert left["id"] == "local", "the tests' own endpoints must be gone"


def test_the_vitest_suite_says_what_is_missing(run_vitest):
    done, _ = run_vitest(os.defpath)
    assert done.returncode == 1
    assert "there is no runpod-emulator on the PATH: install it (pip install runpod-emulator)" in done.stdout


def test_the_lock_file_is_that_of_the_package_and_of_no_registry():
    package = json.loads((VITEST / "package.json").read_text())
    packages = json.loads((VITEST / "package-lock.json").read_text())["packages"]
    root = packages.pop("")
    for key in ("name", "dependencies", "devDependencies", "engines"):
        assert root[key] == package[key]
    for name, locked in packages.items():
        assert locked["integrity"].startswith("sha512-"), name
        assert "resolved" not in locked, f"{name}: npm is to ask the registry of whoever installs"
