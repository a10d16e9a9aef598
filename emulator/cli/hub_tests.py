"""`test`: runs the Hub's test file."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli.hub_expectations import Match, judge_output, runners_view
from emulator.cli.hub_results import HubResult, Verdict, counts, report_json, report_junit
from emulator.cli.hub_test_files import MISSING, TEST_FILES, BadTestFile, HubTest, HubTestFile, read_test_file
from emulator.cli.one_job import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_TIMED_OUT,
    EXIT_USAGE,
    End,
    command_of,
    configure_log,
    container_of,
    job_runner,
    one_worker,
    run_to_exit_code,
    split_words,
    tell,
)
from emulator.cli.worker_options import Command, GPUs, Image, Module, Volumes
from emulator.core.config import WorkerKind
from emulator.core.status_body import status_body
from emulator.errors import ConfigError, EmulatorError
from emulator.settings import interpreter, work_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.cli.one_job import JobRunner
    from emulator.core.config import EndpointConfig
    from emulator.core.events import WorkerLine

#: The handlers that are looked for, in this order.
HANDLERS = ("handler.py", "rp_handler.py", "src/handler.py", "src/rp_handler.py")
#: Off a terminal nobody knows how wide the page is.
_PAGE_WIDTH = 120
#: How much of what the handler printed is shown of a test that did not pass.
_LINES_SHOWN = 20
_VERDICTS = {
    End.COMPLETED: Verdict.PASSED,
    End.FAILED: Verdict.FAILED,
    End.TIMED_OUT: Verdict.TIMED_OUT,
    End.NOT_TAKEN: Verdict.ERROR,
}
_STYLES = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "red",
    Verdict.TIMED_OUT: "red",
    Verdict.ERROR: "red",
    Verdict.SKIPPED: "yellow",
}


def hub_tests(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help=f"The test file (default: the first of {', '.join(TEST_FILES)})."
        ),
    ] = None,
    worker_args: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- ARGS]", help="Arguments for the handler's script, after --."),
    ] = None,
    handler: Annotated[
        str | None,
        typer.Option(
            "--handler",
            metavar="HANDLER",
            help="A script (handler.py) or a function (handler.py:function, module:function);"
            f" default: the first of {', '.join(HANDLERS)}.",
        ),
    ] = None,
    command: Command = None,
    module: Module = None,
    image: Image = None,
    gpus: GPUs = "",
    volume: Volumes = None,
    workdir: Annotated[
        Path | None,
        typer.Option("--workdir", metavar="FOLDER", help="The folder to run it in (default: this one)."),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            "--python", metavar="PATH", help="The interpreter of the worker (default: the emulator's own)."
        ),
    ] = None,
    keyword: Annotated[
        str | None,
        typer.Option("-k", metavar="TEXT", help="Run only the tests whose name contains this (in any case)."),
    ] = None,
    match: Annotated[
        Match,
        typer.Option(
            "--match",
            metavar="exact|subset",
            help="exact: outputs are as expected; subset: objects may have more keys.",
        ),
    ] = Match.EXACT,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first test that does not pass.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit XML, for CI.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as one JSON document, not as a table.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every step to standard error.")
    ] = False,
) -> None:
    """Run the Hub's test file (.runpod/tests.json) here.

    Each test is a job for a worker process, as in production; config.env is
    its environment. A test passes when its job COMPLETES within timeout ms of
    execution, with the expected_output (or expectedOutput, or output) if there
    is one. A job that takes
    longer is stopped, with its worker.

    Exit codes: 0 all passed, 1 some failed, 2 nothing was run (wrong usage,
    a bad file, a handler that does not load), 4 some timed out and none
    failed otherwise.
    """
    configure_log(verbose=verbose)
    try:
        named, words = split_words(context, file, worker_args)
        command = command_of(command, module, handler)
        path = (
            Path(named) if named else _first_of(TEST_FILES, "test file", "name it: runpod-emulator test FILE")
        )
        tests = _selected(read_test_file(path), keyword)
        if junit is not None:
            _prepare(junit)
            junit = junit.absolute()
        found = interpreter(python) if python else None
        # Only now: the paths of the command line start where it was given.
        work_in(workdir)
        if handler is None and command is None and image is None:
            advice = "name it with --handler, or give a --command or an --image"
            handler = str(_first_of(HANDLERS, "handler", advice))
        kind = WorkerKind.PROCESS if image is None else WorkerKind.DOCKER
        container = container_of(image, gpus, volume)
        config = one_worker(handler, kind, found, tests.env, command, words, image, container)
        source = handler or image or command or ""
        for warning in tests.warnings:
            tell(f"warning: {warning}")
        session = _Session(tests.tests, match, fail_fast=fail_fast)
        code = run_to_exit_code(lambda: session.run(config))
    except EmulatorError as error:
        tell(f"error: {error}")
        raise typer.Exit(EXIT_USAGE) from None
    if junit is not None:
        try:
            junit.write_bytes(report_junit(tests.path, session.results, session.took_ms))
        except OSError as error:
            tell(f"error: --junit: cannot write {junit}: {error.strerror}")
            code = EXIT_USAGE
    _tell_failures(session.results, show_printed=not verbose)
    for note, names in session.notes.items():
        tell(f"note: {note} ({', '.join(map(_printable, names))})")
    if as_json:
        document = report_json(tests.path, source, session.results, session.took_ms)
        typer.echo(json.dumps(document, indent=2 if sys.stdout.isatty() else None))
    else:
        _print_table(session.results, session.took_ms)
    raise typer.Exit(code)


class _Session:
    """One run of a file's tests, one after the other, by one worker as long as it lives."""

    def __init__(self, tests: Sequence[HubTest], match: Match, *, fail_fast: bool) -> None:
        self.results: list[HubResult] = []
        #: Where Runpod's own runner would judge another way, each with the tests' names.
        self.notes: dict[str, list[str]] = {}
        self._match = match
        #: For how long all of it went on, starts of workers included.
        self.took_ms = 0
        self._tests = tests
        self._fail_fast = fail_fast
        #: What was printed while a worker started, or between two jobs; and what about each job.
        self._printed_by_worker: list[str] = []
        self._printed: dict[str, list[str]] = {}

    async def run(self, config: EndpointConfig) -> int:
        """Run the tests; returns the exit code."""
        skipped_because = ""
        async with job_runner(config, self._on_line) as runner:
            began_ms = runner.clock.now_ms()
            for number, test in enumerate(self._tests, 1):
                if skipped_because:
                    result = HubResult(test=test, verdict=Verdict.SKIPPED, why=(skipped_because,))
                else:
                    tell(f"test {number}/{len(self._tests)}: {_printable(test.name)}")
                    result = await self._result(runner, test, config.execution_timeout_ms)
                    skipped_because = self._stops_at(result, runner)
                self.results.append(result)
            self.took_ms = runner.clock.now_ms() - began_ms
        return _exit_code(self.results)

    def _stops_at(self, result: HubResult, runner: JobRunner) -> str:
        """Why the tests after this one are not tried; empty when they are."""
        if result.verdict is Verdict.ERROR:
            if not runner.has_had_worker:
                return "the worker did not start"
            if self.results and self.results[-1].verdict is Verdict.ERROR:
                return "no worker took the two tests before"
        if self._fail_fast and result.verdict is not Verdict.PASSED:
            return f"{result.test.name!r} did not pass (--fail-fast)"
        return ""

    async def _result(self, runner: JobRunner, test: HubTest, default_timeout_ms: int) -> HubResult:
        timeout_ms = test.timeout_ms or default_timeout_ms
        outcome = await runner.run(
            test.input,
            timeout_ms=timeout_ms,
            on_submitted=lambda job: self._printed.update({job.id: []}),
        )
        job = outcome.job
        result = HubResult(
            test=test,
            verdict=_VERDICTS[outcome.end],
            why=(outcome.why,) if outcome.why else (),
            took_ms=job.execution_ms,
            job=json.loads(status_body(job, runner.clock.now_ms())),
            traceback=outcome.traceback,
            # The list grows until the worker has ended: the last lines are read late.
            printed=self._printed[job.id],
        )
        if outcome.end is End.NOT_TAKEN:
            result.job, result.printed = None, self._printed_by_worker
        elif outcome.end is End.TIMED_OUT:
            result.why = (f"not done after {timeout_ms} ms: it was stopped",)
        elif outcome.end is End.COMPLETED:
            output = MISSING if job.output_json is None else job.output
            result.why = judge_output(test, output, self._match)
            result.verdict = Verdict.FAILED if result.why else Verdict.PASSED
            if note := runners_view(test, output, passed=not result.why):
                self.notes.setdefault(note, []).append(test.name)
        return result

    def _on_line(self, line: WorkerLine, job_id: str | None) -> None:
        text = f"{line.level}: {line.text}" if line.level else line.text
        self._printed.get(job_id or "", self._printed_by_worker).append(text)


def _exit_code(results: Sequence[HubResult]) -> int:
    count = counts(results)
    if count[Verdict.ERROR] and count[Verdict.ERROR] + count[Verdict.SKIPPED] == len(results):
        return EXIT_USAGE
    if count[Verdict.FAILED] or count[Verdict.ERROR]:
        return EXIT_FAILED
    return EXIT_TIMED_OUT if count[Verdict.TIMED_OUT] else EXIT_OK


# What is to be run


def _first_of(names: Sequence[str], what: str, advice: str) -> Path:
    """The first of the files that is there.

    :raises ConfigError: none is.
    """
    for name in names:
        if Path(name).is_file():
            return Path(name)
    raise ConfigError(f"there is no {what}: looked for {', '.join(names)} in {Path.cwd()}; {advice}")


def _selected(file: HubTestFile, keyword: str | None) -> HubTestFile:
    """The file with the tests alone whose name contains the keyword.

    :raises BadTestFile: there is none.
    """
    if keyword is None:
        return file
    tests = tuple(test for test in file.tests if keyword.casefold() in test.name.casefold())
    if not tests:
        names = ", ".join(repr(test.name) for test in file.tests)
        raise BadTestFile(f"{file.path}: no test's name contains {keyword!r}: there is {names}")
    return replace(file, tests=tests)


def _prepare(junit: Path) -> None:
    """See to it, before anything runs, that there is a place for a report.

    :raises ConfigError: there cannot be.
    """
    try:
        junit.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--junit: cannot make the folder of {junit}: {error.strerror}") from error
    if junit.is_dir():
        raise ConfigError(f"--junit: {junit} is a folder: name a file in it")


# What is told of it


def _tell_failures(results: Sequence[HubResult], *, show_printed: bool) -> None:
    """Show tracebacks, and what was printed, of the tests that did not pass."""
    for result in results:
        if result.verdict in (Verdict.PASSED, Verdict.SKIPPED):
            continue
        lines = result.printed[-_LINES_SHOWN:] if show_printed else []
        if show_printed and (more := len(result.printed) - _LINES_SHOWN) > 0:
            lines = [f"[… {more} lines before these]", *lines]
        if result.traceback and result.traceback not in "\n".join(lines):
            lines = [*lines, *result.traceback.splitlines()]
        if lines:
            tell("\n".join([f"\n--- {_printable(result.test.name)} ---", *lines]))


def _print_table(results: Sequence[HubResult], took_ms: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = _PAGE_WIDTH
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("test", overflow="fold")
    table.add_column("result", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for result in results:
        table.add_row(
            # Text, not str: what looks like rich's markup is the user's.
            Text(_printable(result.test.name)),
            Text(result.verdict, _STYLES[result.verdict]),
            "" if result.took_ms is None else f"{result.took_ms / 1000:.2f} s",
            Text("\n".join(map(_printable, result.why))),
        )
    console.print(table)
    ended = [f"{count} {verdict}" for verdict, count in counts(results).items() if count]
    passed = all(result.verdict is Verdict.PASSED for result in results)
    console.print(f"{', '.join(ended)} in {took_ms / 1000:.1f} s", style="green" if passed else "red")


def _printable(text: str) -> str:
    """The text on one line, without what would move a terminal's cursor."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
