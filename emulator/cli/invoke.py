"""`invoke`: one job, from the command line to its output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from emulator.cli.hub_test_files import BadTestFile, input_in, parse_json, read_json
from emulator.cli.one_job import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_TIMED_OUT,
    EXIT_USAGE,
    End,
    command_of,
    configure_log,
    container_of,
    ended_by_force,
    job_runner,
    leave,
    one_worker,
    run_to_exit_code,
    split_words,
    tell,
)
from emulator.cli.terminal_text import printable
from emulator.cli.worker_options import Command, GPUs, Image, Module, Volumes
from emulator.core.config import EndpointConfig, WorkerKind
from emulator.core.durations import duration_ms
from emulator.core.policy import EXECUTION_TIMEOUT_MAX_MS
from emulator.core.status_body import status_body
from emulator.errors import ConfigError, EmulatorError
from emulator.settings import interpreter, work_in
from emulator.workers.loading import parts_of
from emulator.workers.project import is_worker_module

if TYPE_CHECKING:
    from emulator.cli.one_job import Outcome
    from emulator.core.events import WorkerLine

_TEST_INPUT = "test_input.json"
_EXIT_CODES = {
    End.COMPLETED: EXIT_OK,
    End.FAILED: EXIT_FAILED,
    End.TIMED_OUT: EXIT_TIMED_OUT,
    End.NOT_TAKEN: EXIT_USAGE,
}


def invoke(
    context: typer.Context,
    handler: Annotated[
        str | None,
        typer.Argument(help="A script (handler.py) or a function (handler.py:function, module:function)."),
    ] = None,
    worker_args: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- ARGS]", help="Arguments for the handler's script, after --."),
    ] = None,
    job_input: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="JSON|@FILE",
            help="What the handler finds as job['input']: JSON, or @FILE for a file that holds it, - for"
            " standard input. Default: the input in test_input.json, here or beside the handler.",
        ),
    ] = None,
    timeout: Annotated[
        str,
        typer.Option(
            "--timeout",
            metavar="DURATION",
            help="How long the handler may take (a bare number is s): then it is ended.",
        ),
    ] = "10m",
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Print each chunk that the handler yields as it comes, one a line."),
    ] = False,
    whole: Annotated[
        bool,
        typer.Option("--json", help="Print the whole status body (id, status, times, output, error)."),
    ] = False,
    worker_kind: Annotated[
        Literal["inline", "process"] | None,
        typer.Option(
            "--worker-kind",
            metavar="inline|process",
            help="inline: in this process, at once, no SDK needed. process: in a process of its own, a script"
            " with the real SDK as in production, whose start alone takes 1.5 s. Default: process for a"
            " script and with --python, else inline.",
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
            "--python", metavar="PATH", help="The interpreter of the process (default: the emulator's own)."
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every step to standard error.")
    ] = False,
) -> None:
    """Run one job and print its output.

    The output is JSON on standard output: indented on a terminal, else one
    line. What the handler prints, and why a job failed, goes to standard
    error.

    Exit codes: 0 completed, 1 failed, 2 nothing was run (wrong usage, or the
    handler does not load), 4 timed out.
    """
    configure_log(verbose=verbose)
    try:
        handler, words = split_words(context, handler, worker_args)
        command = command_of(command, module, handler)
        if handler is None and command is None and image is None:
            raise ConfigError(
                "there is nothing to run: name a handler (handler.py), or give a --command or an --image"
            )
        container = container_of(image, gpus, volume)
        timeout_ms = _timeout_ms(timeout)
        found = interpreter(python) if python else None
        value = None if job_input is None else _input(job_input)
        # Only now: the paths of the command line start where it was given.
        work_in(workdir)
        if handler is not None and worker_kind != "inline" and is_worker_module(handler, Path.cwd()):
            handler, command = None, f"python -m {handler}"
        kind = WorkerKind.DOCKER if image is not None else _kind(handler, worker_kind, found)
        if value is None:
            value = _default_input(handler)
        config = one_worker(
            handler, kind, found, command=command, worker_args=words, image=image, container=container
        )
        with _own_stdout() as stdout:
            run = _Invocation(config, stdout, whole=whole, stream=stream, show_lines=not verbose)
            code = run_to_exit_code(lambda: run.run(value, timeout_ms))
    except EmulatorError as error:
        tell(f"error: {error}")
        raise typer.Exit(EXIT_USAGE) from None
    raise typer.Exit(code)


class _Invocation:
    """One run of the command, once all that was asked for is known to be possible."""

    def __init__(
        self, config: EndpointConfig, stdout: BinaryIO, *, whole: bool, stream: bool, show_lines: bool
    ) -> None:
        self._config = config
        self._stdout = stdout
        self._whole = whole
        self._stream = stream
        #: Of a process; a verbose log has them anyway.
        self._show_lines = show_lines
        #: What was printed: chunks to standard output, lines to standard error.
        self._chunks = 0
        self._printed: list[str] = []

    async def run(self, value: Any, timeout_ms: int) -> int:
        """Run the job, end its worker, and tell what has come of it; returns the exit code."""
        inline = self._config.worker_kind is WorkerKind.INLINE
        timed_out = f"timed out: the handler was not done after {timeout_ms / 1000:g} s (--timeout)"
        async with job_runner(self._config, self._on_line) as runner:
            with ended_by_force(timeout_ms, timed_out) if inline else nullcontext():
                outcome = await runner.run(
                    value, timeout_ms=timeout_ms, on_chunk=self._on_chunk if self._stream else None
                )
            body = status_body(outcome.job, runner.clock.now_ms())
        # Only now has all been read that a process has printed: the error comes after it.
        if outcome.note:
            tell(f"note: {outcome.note}")
        if outcome.traceback and outcome.traceback not in "\n".join(self._printed):
            tell(outcome.traceback)
        if outcome.end is not End.COMPLETED:
            tell(f"error: {timed_out if outcome.end is End.TIMED_OUT else outcome.why}")
        self._print_result(outcome, body)
        if outcome.end is End.TIMED_OUT and inline:
            leave(EXIT_TIMED_OUT)
        return _EXIT_CODES[outcome.end]

    def _print_result(self, outcome: Outcome, body: bytes) -> None:
        if outcome.end is End.NOT_TAKEN:
            return
        if self._whole:
            self._print(body)
        elif outcome.job.output_json is not None and not self._chunks:
            self._print(outcome.job.output_json)
        elif outcome.end is End.COMPLETED and not self._chunks:
            # As in production: a job whose handler leaves nothing has no output.
            self._print(b"null")
        if outcome.end is End.COMPLETED and outcome.job.chunks:
            tell(f"note: the handler streamed {len(outcome.job.chunks)} chunk(s): --stream prints them")

    def _on_line(self, line: WorkerLine, _job_id: str | None) -> None:
        if self._show_lines:
            text = f"{line.level}: {line.text}" if line.level else line.text
            self._printed.append(text)
            tell(text)

    def _on_chunk(self, chunk: bytes) -> None:
        self._chunks += 1
        self._stdout.write(chunk + b"\n")
        self._stdout.flush()

    def _print(self, json_text: bytes) -> None:
        if os.isatty(self._stdout.fileno()):
            pretty = printable(json.dumps(json.loads(json_text), indent=2, ensure_ascii=False))
            # A lone surrogate has no UTF-8, and Python's escape for it is JSON's.
            json_text = pretty.encode("utf-8", "backslashreplace")
        self._stdout.write(json_text + b"\n")
        self._stdout.flush()


def _kind(handler: str | None, asked: Literal["inline", "process"] | None, python: str | None) -> WorkerKind:
    if handler is None:
        return WorkerKind(asked or "process")
    place, function = parts_of(handler)
    if asked == "inline" and python is not None:
        raise ConfigError(
            "--python is the interpreter of a process: it does not go with --worker-kind inline"
        )
    if asked is None:
        asked = "inline" if function and python is None else "process"
    if asked == "inline" and not place.endswith(".py"):
        _need_module(place.partition(".")[0], handler)
    return WorkerKind(asked)


def _need_module(name: str, handler: str) -> None:
    """Refuse a handler whose module is nowhere, in one sentence; a process's is checked where it would run.

    :raises ConfigError: see above.
    """
    if name not in sys.modules and PathFinder.find_spec(name, [str(Path.cwd()), *sys.path]) is None:
        raise ConfigError(f"{handler}: there is no module {name!r}, neither in {Path.cwd()} nor installed")


def _timeout_ms(text: str) -> int:
    try:
        timeout_ms = duration_ms(text, "s")
    except ConfigError as error:
        raise ConfigError(f"--timeout: {error}") from None
    if not 0 < timeout_ms <= EXECUTION_TIMEOUT_MAX_MS:
        raise ConfigError(f"--timeout is {text}: it must be above 0 and at most 7 days (168h)")
    return timeout_ms


def _input(given: str) -> Any:
    if given in ("-", "@-"):
        value = parse_json(sys.stdin.read(), "--input, from standard input")
    elif given.startswith("@"):
        value = read_json(Path(given[1:]))
    else:
        try:
            value = parse_json(given, "--input")
        except BadTestFile as error:
            word = given.strip()
            hint = f" (a text is quoted: --input '{json.dumps(word)}')" if word.isalpha() else ""
            raise BadTestFile(f"{error}{hint}") from None
    if value is None:
        raise BadTestFile('--input is null: a job needs an input, such as {"prompt": "hi"}')
    if isinstance(value, dict) and value.keys() == {"input"} and isinstance(value["input"], dict):
        tell(
            'note: --input is {"input": {…}}: the handler gets that as job["input"]; is the outer object'
            " the job? Then leave it out"
        )
    return value


def _default_input(handler: str | None) -> Any:
    place = "" if handler is None else parts_of(handler)[0]
    candidates = [Path(_TEST_INPUT)]
    if place.endswith(".py"):
        candidates.append(Path(place).parent / _TEST_INPUT)
    for path in candidates:
        if path.is_file():
            return input_in(path)
    looked_in = "here or beside the handler" if len(set(candidates)) > 1 else "here"
    raise BadTestFile(f"there is no input: give one with --input (there is no {_TEST_INPUT} {looked_in})")


@contextmanager
def _own_stdout() -> Iterator[BinaryIO]:
    """Standard output for the result alone: whoever else in this process writes to it writes to stderr."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "wb") as stdout, redirect_stdout(sys.stderr):
        # What the handler starts, or calls in C, does not know of sys.stdout.
        os.dup2(2, 1)
        try:
            yield stdout
        finally:
            os.dup2(stdout.fileno(), 1)
