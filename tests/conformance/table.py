"""Writes docs/conformance.md from the JUnit report of tests/api, tests/conformance and tests/workers.

    python -m pytest --junitxml=REPORT tests/api tests/conformance tests/workers
    python -m tests.conformance.table REPORT

`make conformance` does both. Without a report the page is written without counts.
"""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/conformance.md"

_SUBMITTING, _BODIES = "api/test_submitting.py", "api/test_bodies.py"
_STATUS, _STREAM = "api/test_status.py", "api/test_stream.py"
_ERRORS, _ENDING = "api/test_auth_and_errors.py", "api/test_cancel_retry_purge.py"
_COUNTS, _LIMITS = "api/test_health_and_requests.py", "api/test_limits.py"
_WEBHOOKS, _SCALING = "api/test_webhooks.py", "api/test_scaling_over_http.py"
_PROTOCOL, _PROCESSES = "api/test_worker_protocol.py", "api/test_process_workers.py"
_THREADS, _FUZZ = "api/test_sync_handlers.py", "api/test_openapi_fuzz.py"
_PYTHON, _ASYNC = "conformance/test_python_sdk.py", "conformance/test_python_sdk_async.py"
_JS = "conformance/test_js_sdk.py"
_CONSOLE = "api/test_console_api.py"
_OPENAI, _OPENAI_CLIENTS = "api/test_openai.py", "conformance/test_openai_clients.py"
_RESULTS, _S3, _PRESTART = "api/test_results_told.py", "workers/test_s3.py", "workers/test_prestart.py"
_WORKERS, _HARDSHIP = "workers/test_behaviour.py", "workers/test_hardship.py"

#: What a test was made with, by its file and what is in its id.
SDKS = {
    "runpod": {_PYTHON: "", _ASYNC: "", _WORKERS: r"\[(script|external)", _HARDSHIP: "sdk"},
    "runpod-sdk": {_JS: ""},
}


@dataclass(frozen=True)
class Row:
    """An operation, or a group of behaviours."""

    what: str
    #: Of the wire notes.
    section: int
    #: Which tests assert it: by file, a pattern that is found in their names.
    tests: dict[str, str] = field(default_factory=dict)
    #: The operations it is about, as they are in URLs.
    operations: tuple[str, ...] = ()


ROWS = [
    Row(
        "keys: which pass, and 401",
        1,
        {_ERRORS: "(?<!for_no_)key|auth", _PYTHON: "wrong_key", _ASYNC: "wrong_key", _JS: "wrong_key"},
    ),
    Row(
        "error bodies, unknown endpoints and operations, wrong methods",
        1,
        {
            _ERRORS: "unknown|not_found|wrong_method|bad_request|checked_before|failing_handler|bug",
            _FUZZ: "",
            _PYTHON: "not_there|refused",
            _JS: "not_there|refused",
        },
    ),
    Row(
        "`POST /run`",
        2,
        {
            _SUBMITTING: "run_(answers|says)|id_of_its_own|does_not_replace",
            _PYTHON: "its_start_to_its_end|in_the_queue$|needs_only",
            _ASYNC: "its_start_to_its_end|in_the_queue$",
            _JS: "its_start_to_its_end|in_the_queue$",
        },
        ("run",),
    ),
    Row("`POST /runsync`", 2, {_SUBMITTING: "runsync", _PYTHON: "run_sync", _JS: "run_sync"}, ("runsync",)),
    Row(
        "`input`: any JSON value, untouched",
        2,
        {
            _SUBMITTING: "input",
            _BODIES: "input|surrogate|twice",
            _PYTHON: "untouched|wraps",
            _ASYNC: "untouched",
            _JS: "untouched",
            _WORKERS: "values_come_back|as_it_was_sent",
        },
    ),
    Row(
        "an `input` that is missing, null or `{}`",
        2,
        {_SUBMITTING: "no_input|empty_input|missing_input"},
    ),
    Row("bodies: form and size", 2, {_BODIES: "limit|length|refused|body|content_type"}),
    Row(
        "`policy`, `?ttl`, `webhook`, `s3Config`, other keys",
        2,
        {
            _SUBMITTING: "policy|ttl|webhook|s3_config|execution_timeout|key|handed_on",
            _PYTHON: "refused",
            _JS: "refused",
        },
    ),
    Row(
        "`GET /status/{id}`, by POST too",
        3,
        {
            _STATUS: "may_be_got|shows|shown|whole_milliseconds|unknown_job|progress",
            _PYTHON: "its_start_to_its_end|in_the_queue$",
            _ASYNC: "its_start_to_its_end|in_the_queue$",
            _JS: "its_start_to_its_end|in_the_queue$|not_there",
            _WORKERS: "progress",
        },
        ("status",),
    ),
    Row(
        "`GET /status-sync/{id}`, by POST too",
        3,
        {_STATUS: "status_sync", _JS: "status_sync|its_start_to_its_end|asks_again"},
        ("status-sync",),
    ),
    Row(
        "what a handler returns or raises: COMPLETED, FAILED",
        3,
        {
            _STATUS: "returned|exception|error|json_cannot",
            _PYTHON: "raises|returns_an_error|failed_job",
            _ASYNC: "fail",
            _JS: "raises|returns_an_error",
            _WORKERS: "values_come_back|error_that|raises|json_lacks",
            _HARDSHIP: "json_cannot|raises",
        },
    ),
    Row(
        "`executionTimeout`",
        3,
        {
            _STATUS: "execution_timeout",
            _THREADS: "timed_out|charged",
            _PYTHON: "policy_allows",
            _ASYNC: "endpoint_allows",
            _JS: "policy_allows",
            _HARDSHIP: "too_long|does_not_stop",
        },
    ),
    Row("ttl: TIMED_OUT, then 404", 3, {_STATUS: "ttl", _PYTHON: "ttl", _JS: "ttl"}),
    Row(
        "a lost worker: queued once more, then FAILED",
        3,
        {
            _STATUS: "dies|once_more",
            _JS: "dies",
            _WORKERS: "dies",
            _HARDSHIP: "death|being_killed|killings|dies",
        },
    ),
    Row(
        "results above what production takes; COMPLETED without output",
        3,
        {_RESULTS: "", _OPENAI: "without_output"},
    ),
    Row("how long results are kept", 3, {_STATUS: "(results_are|job_is)_kept", _PYTHON: "kept"}),
    Row(
        "`GET /stream/{id}`, by POST too",
        4,
        {_STREAM: "", _PYTHON: "stream", _ASYNC: "stream", _JS: "stream", _WORKERS: "stream|chunk"},
        ("stream",),
    ),
    Row(
        "`POST /cancel/{id}`",
        4,
        {_ENDING: "cancelling", _PYTHON: "cancel", _ASYNC: "cancel", _JS: "cancel", _WORKERS: "cancel"},
        ("cancel",),
    ),
    Row("`POST /retry/{id}`", 4, {_ENDING: "retr", _STREAM: "retr", _WORKERS: "retr"}, ("retry",)),
    Row(
        "`POST /purge-queue`",
        4,
        {_ENDING: "purg", _PYTHON: "purg", _ASYNC: "purg", _JS: "purg"},
        ("purge-queue",),
    ),
    Row(
        "`GET /health`",
        4,
        {_COUNTS: "health|counts", _PYTHON: "health", _ASYNC: "health", _JS: "health", _WORKERS: "counts"},
        ("health",),
    ),
    Row(
        "`GET /metrics`",
        4,
        {_CONSOLE: "metrics"},
        ("metrics",),
    ),
    Row("`GET /requests`", 4, {_COUNTS: "requests|query"}, ("requests",)),
    Row("`/openai/{path}`", 4, {_OPENAI: "", _OPENAI_CLIENTS: ""}, ("openai",)),
    Row("`s3Config`, and files in an S3 store", 2, {_S3: "", _SUBMITTING: "s3_config"}),
    Row("webhooks: what is sent, and when", 5, {_WEBHOOKS: "told|body|posted|sent"}),
    Row(
        "webhooks: what counts as an answer, and further attempts",
        5,
        {_WEBHOOKS: "_tried|2xx|attempts|fails"},
    ),
    Row("rate limits: 429", 6, {_LIMITS: "", _PYTHON: "more_often"}),
    Row("when workers start and stop", 6, {_SCALING: "^(?!.*low_priority)"}),
    Row("`lowPriority`", 6, {_SCALING: "low_priority"}),
    Row(
        "`job-take`, `job-take-batch`",
        7,
        {
            _PROTOCOL: "a_take|batch|registers_by|poll_loses|waits_for_a_job",
            _WORKERS: "several_jobs|as_it_was_sent",
        },
        ("job-take", "job-take-batch"),
    ),
    Row("`job-stop`", 7, {_PROTOCOL: "stop|let_go", _WORKERS: "stopped"}, ("job-stop",)),
    Row("`job-stream`", 7, {_PROTOCOL: "chunks|says_is_what", _WORKERS: "chunk|stream"}, ("job-stream",)),
    Row(
        "`job-done`, progress included",
        7,
        {
            _PROTOCOL: "end_of_a_job|result|same_end|progress|says_is_what|another_worker|replaced",
            _WORKERS: "values_come_back|error_that|progress|refresh|lacks",
        },
        ("job-done",),
    ),
    Row("prestart hooks that fail", 7, {_PRESTART: ""}),
    Row("`ping`, and workers that fall silent", 7, {_PROTOCOL: "heartbeat|silent|unfit|missed"}, ("ping",)),
    Row(
        "the SDK's program as a worker, unchanged",
        7,
        {_WORKERS: r"\[(script|external)", _HARDSHIP: "sdk", _PROCESSES: "variables|own_checks|another_key"},
    ),
]

HEAD = """\
# Conformance

What production sends, as far as it is known, and how many tests hold the emulator to it. `make conformance`
runs them and rewrites this page; it is not edited by hand.

*Notes* is the section of the wire notes, our record of what production does and how that is known. *With*
names the SDKs that were at the other end in some of the tests; the others speak plain HTTP. A test may count
in several rows. What differs on purpose is in [fidelity.md](fidelity.md), what is missing in
[not-emulated.md](not-emulated.md).
"""
NO_RUN = "No run is recorded: `make conformance` makes one.\n"
COLUMNS = "| what | notes | tests | with |\n|---|---|---|---|\n"


@dataclass(frozen=True)
class Run:
    """What a run has shown."""

    #: The tests that passed: `file::test[parameters]`, without `tests/`.
    passed: list[str]
    date: str
    versions: dict[str, str]


def read(report: Path) -> Run:
    """What a JUnit report says.

    :raises SystemExit: a test has failed.
    """
    passed, failed = [], []
    suites = ET.parse(report).getroot()  # Our own file, of this minute.
    for case in suites.iter("testcase"):
        # tests.api.test_run, or for a method tests.api.test_run.TestRun
        modules = [part for part in case.attrib["classname"].split(".")[1:] if not part.startswith("Test")]
        test = f"{'/'.join(modules)}.py::{case.attrib['name']}"
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            failed.append(test)
        elif "skipped" not in outcomes:
            passed.append(test)
    if failed:
        sys.exit("docs/conformance.md is left as it is, since these have failed:\n" + "\n".join(failed))
    date = next(suites.iter("testsuite")).attrib["timestamp"].partition("T")[0]
    return Run(passed, date, installed())


def installed() -> dict[str, str]:
    """The versions of the SDKs."""
    package = TESTS / "conformance/node_modules/runpod-sdk/package.json"
    return {"runpod": version("runpod"), "runpod-sdk": json.loads(package.read_text())["version"]}


def selected(patterns: dict[str, str], passed: list[str]) -> list[str]:
    """The tests whose file is named, and whose name has the file's pattern in it."""
    return [
        test
        for test in passed
        for file, _, name in [test.partition("::")]
        # A pattern without a bracket is about the test, not its parameters.
        if file in patterns
        and re.search(patterns[file], name if "[" in patterns[file] else name.partition("[")[0])
    ]


def render(run: Run | None) -> str:
    """The page."""
    if run is None:
        lines = [f"| {row.what} | {row.section} | {'not run' if row.tests else 'none'} | |\n" for row in ROWS]
        return "".join([HEAD, "\n", NO_RUN, "\n", COLUMNS, *lines])
    lines = []
    for row in ROWS:
        tests = selected(row.tests, run.passed)
        if row.tests and not tests:
            sys.exit(f"no test of this run asserts {row.what!r}: correct its patterns in {__file__}")
        used = [f"{sdk} {run.versions[sdk]}" for sdk, patterns in SDKS.items() if selected(patterns, tests)]
        lines.append(f"| {row.what} | {row.section} | {len(tests) or 'none'} | {', '.join(used)} |\n")
    summary = (
        f"Last run: {run.date}. All {len(run.passed)} tests of the API, the SDKs and the workers passed.\n"
    )
    return "".join([HEAD, "\n", summary, "\n", COLUMNS, *lines])


if __name__ == "__main__":
    PAGE.write_text(render(read(Path(sys.argv[1])) if sys.argv[1:] else None), encoding="utf-8")
