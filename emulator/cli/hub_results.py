"""The results of a test file, and how they are reported to programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from emulator.cli.hub_test_files import HubTest

#: What XML 1.0 has no way to write.
_NOT_XML = "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


class Verdict(StrEnum):
    """What became of a test."""

    PASSED = "passed"
    """Its job COMPLETED in time, with the expected output where there is one."""
    FAILED = "failed"
    """Its job FAILED, or its output is another."""
    TIMED_OUT = "timed out"
    """The handler held its job for too long and was stopped."""
    ERROR = "error"
    """Its job was never begun: the worker did not start."""
    SKIPPED = "skipped"
    """It was not tried, because of an earlier one."""


@dataclass(slots=True, kw_only=True)
class HubResult:
    """One test's result, with all that helps to understand it."""

    test: HubTest
    verdict: Verdict
    #: Why it did not pass, a line each.
    why: tuple[str, ...] = ()
    #: How long the handler held the job, in ms; None when it never got it.
    took_ms: int | None = None
    #: The job's status body; None when there was no job.
    job: Mapping[str, Any] | None = None
    #: Of a handler that raised.
    traceback: str = ""
    #: What the handler printed; grows until its worker has ended.
    printed: list[str] = field(default_factory=list)


def counts(results: Iterable[HubResult]) -> dict[Verdict, int]:
    """How many tests ended in each way."""
    verdicts = [result.verdict for result in results]
    return {verdict: verdicts.count(verdict) for verdict in Verdict}


def report_json(path: Path, handler: str, results: list[HubResult], took_ms: int) -> dict[str, Any]:
    """All results for a program; times in ms."""
    return {
        "file": str(path),
        "handler": handler,
        "summary": {verdict.replace(" ", "_"): count for verdict, count in counts(results).items()},
        "time_ms": took_ms,
        "tests": [
            {
                "name": result.test.name,
                "result": result.verdict.replace(" ", "_"),
                "time_ms": result.took_ms,
                "why": list(result.why),
                "job": result.job,
                "printed": result.printed,
            }
            for result in results
        ],
    }


def report_junit(path: Path, results: list[HubResult], took_ms: int) -> bytes:
    """All results as JUnit XML, which CI systems read; `took_ms` is how long they took together."""
    from xml.etree import ElementTree

    count = counts(results)
    totals = {
        "tests": str(len(results)),
        "failures": str(count[Verdict.FAILED] + count[Verdict.TIMED_OUT]),
        "errors": str(count[Verdict.ERROR]),
        "skipped": str(count[Verdict.SKIPPED]),
        "time": _seconds(took_ms),
    }
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(root, "testsuite", {"name": _xml(str(path)), **totals})
    for result in results:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {
                "classname": _xml(str(path)),
                "name": _xml(result.test.name),
                "time": _seconds(result.took_ms or 0),
            },
        )
        why = _xml("\n".join(result.why))
        if result.verdict is Verdict.SKIPPED:
            ElementTree.SubElement(case, "skipped", {"message": why})
        elif result.verdict is not Verdict.PASSED:
            element = ElementTree.SubElement(
                case,
                "error" if result.verdict is Verdict.ERROR else "failure",
                {"message": why.partition("\n")[0], "type": result.verdict},
            )
            element.text = _xml(result.traceback) or why
        if result.printed:
            ElementTree.SubElement(case, "system-out").text = _xml("\n".join(result.printed))
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return document + b"\n"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}"


def _xml(text: str) -> str:
    return re.sub(_NOT_XML, "\N{REPLACEMENT CHARACTER}", text)
