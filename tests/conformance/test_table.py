"""docs/conformance.md is what table.py writes, and misses no operation."""

import re

import pytest

from emulator.api.operations import OPERATIONS
from emulator.api.worker_protocol import WORKER_CALLS
from tests.conformance import table
from tests.conformance.table import PAGE, ROWS, SDKS, TESTS, Row, Run, read, render

REPORT = """\
<testsuites><testsuite timestamp="2026-11-23T22:00:00.1+00:00">
  <testcase classname="tests.api.test_a" name="test_run[1]"/>
  <testcase classname="tests.api.test_a" name="test_run[run-2]"/>
  <testcase classname="tests.api.test_a.TestIt" name="test_other[run]"/>
  <testcase classname="tests.api.test_b" name="test_run"><skipped/></testcase>
  <testcase classname="tests.conformance.test_sdk" name="test_run"/>
  {more}
</testsuite></testsuites>
"""


@pytest.fixture
def report(tmp_path):
    def write(more=""):
        path = tmp_path / "report.xml"
        path.write_text(REPORT.format(more=more))
        return path

    return write


def rows_of(page):
    return re.findall(r"^\| (.+) \| (\d) \| .* \| .*\|$", page, re.MULTILINE)


def test_the_page_has_the_rows():
    assert rows_of(PAGE.read_text(encoding="utf-8")) == [(row.what, str(row.section)) for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_the_files_of_a_row_are_there(row):
    assert row.section in range(1, 8)
    for file, pattern in row.tests.items():
        names = re.findall(r"^(?:async )?def (test_\w+)", (TESTS / file).read_text(), re.MULTILINE)
        # What is in brackets is about the parameters.
        assert "[" in pattern or any(re.search(pattern, name) for name in names), (file, pattern)


def test_the_files_of_the_sdks_are_there():
    assert all((TESTS / file).is_file() for patterns in SDKS.values() for file in patterns)


def test_every_operation_has_a_row():
    with_tests = {operation for row in ROWS if row.tests for operation in row.operations}
    assert with_tests == {*OPERATIONS, *WORKER_CALLS}


def test_a_report_becomes_a_page(report, monkeypatch):
    rows = [
        Row("`POST /run`", 2, {"api/test_a.py": "run", "api/test_b.py": "", "conformance/test_sdk.py": ""}),
        Row("the first", 2, {"api/test_a.py": r"\[1"}),
        Row("missing", 4),
    ]
    monkeypatch.setattr(table, "ROWS", rows)
    monkeypatch.setattr(table, "SDKS", {"sdk": {"conformance/test_sdk.py": ""}})
    monkeypatch.setattr(table, "installed", lambda: {"sdk": "1.2"})
    page = render(read(report()))
    assert "Last run: 2026-11-23. All 4 tests" in page
    assert page.splitlines()[-3:] == [
        "| `POST /run` | 2 | 3 | sdk 1.2 |",
        "| the first | 2 | 1 |  |",
        "| missing | 4 | none |  |",
    ]
    assert rows_of(page) == rows_of(render(None))


def test_a_row_that_no_test_asserts_is_refused(monkeypatch):
    monkeypatch.setattr(table, "ROWS", [Row("anything", 1, {"api/test_a.py": ""})])
    with pytest.raises(SystemExit, match="no test of this run asserts 'anything'"):
        render(Run([], "2026-11-23", {}))


@pytest.mark.parametrize("outcome", ["failure", "error"])
def test_a_failed_run_is_refused(report, outcome):
    case = f'<testcase classname="tests.api.test_c" name="test_x"><{outcome}/></testcase>'
    with pytest.raises(SystemExit, match=r"api/test_c\.py::test_x"):
        read(report(case))


def test_the_versions_are_those_that_are_installed():
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in table.installed().values())
    assert set(table.installed()) == set(SDKS)
