"""A job that is waited for on the command line: what happens to it meanwhile, and how it ended."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from emulator.cli.asking import (
    EXIT_FAILED,
    EXIT_TIMED_OUT,
    fail,
    readable,
    shortened,
    shown_ms,
)
from emulator.cli.terminal_text import printable, short_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.client import JobClient

_FAILED = frozenset({"FAILED", "CANCELLED"})
_TIMED_OUT = "TIMED_OUT"
_NOT_ENDED = frozenset({"IN_QUEUE", "IN_PROGRESS"})
#: Real seconds from one look at a job that is waited for to the next.
_LOOK_S = 1.0
#: Real seconds after which it is said what a job waits for that will yet get it.
_PATIENCE_S = 3.0
_BAR_WIDTH = 24
#: How workers say how far they are.
_PART_OF = re.compile(r"(?<![\d.])(\d+)\s*(?:/|of)\s*(\d+)(?![\d.])")
_PER_CENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def see_through(job: JobClient, timeout_s: float, as_json: bool, *, stream: bool = False) -> None:
    """Wait for the end of a job, showing how it gets on; print its output, exit as it ended.

    `stream`: print each chunk as it comes, a JSON text a line.
    """
    view, chunks = job.view, 0
    with _stage(job) as stage:
        left_s = timeout_s
        while view["status"] in _NOT_ENDED and left_s > 0:
            stage.show(view, waited_s=timeout_s - left_s)
            if stream:
                chunks += _print_chunks(job)
                view = job.view
            else:
                view = job.look_again(min(left_s, _LOOK_S))
            left_s -= _LOOK_S
        if stream and view["status"] not in _NOT_ENDED:
            while new := _print_chunks(job):
                chunks += new
        stage.show_lines()
    if view["status"] in _NOT_ENDED:
        why = f": {view['waiting_for']}" if view["waiting_for"] else ""
        fail(f"job {job.id} is {view['status']} after {timeout_s:g} s{why}", EXIT_TIMED_OUT)
    _print_end(view, as_json, silent=bool(chunks))
    exit_as(view["status"])


def exit_as(status: str) -> None:
    """End with the code for a job's state, unless it is fine."""
    if status == _TIMED_OUT:
        raise typer.Exit(EXIT_TIMED_OUT)
    if status in _FAILED:
        raise typer.Exit(EXIT_FAILED)


def times(view: dict[str, Any]) -> str:
    """How long a job has waited and run, as far as that is known."""
    delay, execution = view["delay_ms"], view["execution_ms"]
    told = [f"delay {shown_ms(delay)}"] if delay is not None else []
    return ", ".join(told + ([f"execution {shown_ms(execution)}"] if execution is not None else []))


def progress_of(output: object) -> str:
    """How far a job is, in part of a line; with a bar where its worker says n of m."""
    text = shortened(output)
    if found := _PART_OF.search(text):
        done, whole = map(int, found.groups())
    elif found := _PER_CENT.search(text):
        done, whole = round(float(found[1])), 100
    else:
        return text
    if not 0 <= done <= whole or not whole:
        return text
    filled = _BAR_WIDTH * done // whole
    return f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {text}"


def _print_chunks(job: JobClient) -> int:
    """Print the chunks that have come; how many they were."""
    chunks = job.take_chunks(_LOOK_S)
    for chunk in chunks:
        typer.echo(printable(json.dumps(chunk, ensure_ascii=False)))
    sys.stdout.flush()
    return len(chunks)


def _print_end(view: dict[str, Any], as_json: bool, *, silent: bool) -> None:
    """How it ended; `silent`: its output has been printed as it came."""
    if as_json:
        typer.echo(json.dumps(view))
        return
    if view["error"] is not None:
        typer.echo(printable(f"{view['status']}: {readable(view['error'])}"), err=True)
    elif view["status"] != "COMPLETED":
        typer.echo(view["status"], err=True)
    elif not silent:
        text = json.dumps(view["output"], indent=2 if sys.stdout.isatty() else None, ensure_ascii=False)
        typer.echo(printable(text))
    if sys.stderr.isatty():
        typer.echo(f"{view['status']}  {times(view)}".rstrip(), err=True)


class _Stage:
    """Where a job is shown: on standard error, line by line."""

    def __init__(self, job: JobClient) -> None:
        self._job = job
        self._said: set[str] = set()
        self._lines_seen = 0

    def show(self, view: dict[str, Any], *, waited_s: float) -> None:
        """The job as it stands: what it waits for, and what has been written about it."""
        waiting_for = view["waiting_for"]
        if waiting_for and (view["waits_endlessly"] or waited_s >= _PATIENCE_S):
            # Of what will yet end, the first that is seen will do.
            what = waiting_for if view["waits_endlessly"] else ""
            if what not in self._said:
                self.say(f"job {self._job.id} waits: {waiting_for}")
            self._said.add(what)
        self.show_lines()

    def show_lines(self) -> None:
        """What its worker has written since."""
        for line in self._job.lines_after(self._lines_seen):
            self._lines_seen = line["number"]
            self.say(f"│ {line['text']}")

    def say(self, told: str) -> None:
        """Print a line."""
        typer.echo(printable(told), err=True)


class _Terminal(_Stage):
    """A terminal: below the lines stands how it is now."""

    def __init__(self, job: JobClient, console: Any, status: Any) -> None:
        super().__init__(job)
        self._console = console
        self._status = status

    def show(self, view: dict[str, Any], *, waited_s: float) -> None:
        from rich.text import Text

        super().show(view, waited_s=waited_s)
        parts = [view["status"]]
        if view["status"] == "IN_PROGRESS" and view["output"] is not None:
            parts.append(progress_of(view["output"]))
        self._status.update(Text(printable("  ".join([*parts, f"{waited_s:.0f} s"]))))

    def say(self, told: str) -> None:
        self._console.print(short_ids(printable(told)), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _stage(job: JobClient) -> Iterator[_Stage]:
    if not sys.stderr.isatty():
        yield _Stage(job)
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("IN_QUEUE") as status:
        yield _Terminal(job, console, status)
