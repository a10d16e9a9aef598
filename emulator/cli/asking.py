"""How the commands ask an emulator that is running, and tell what it answered."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from emulator.core.job_error import explained
from emulator.errors import ConfigError, EmulatorError
from emulator.settings import VARIABLE_PREFIX, duration_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from emulator.client import EmulatorClient

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_TIMED_OUT = 4

Url = Annotated[
    str | None,
    typer.Option("--url", envvar=f"{VARIABLE_PREFIX}URL", help="Where the emulator serves."),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
EndpointId = Annotated[str | None, typer.Option("--endpoint", help="The endpoint's id (default: the first).")]
OfEndpoint = Annotated[str | None, typer.Option("--endpoint", help="An endpoint that has a time of its own.")]


@contextmanager
def running_emulator(url: str | None) -> Iterator[EmulatorClient]:
    """The emulator that is talked to; what goes wrong becomes a sentence and an exit code."""
    from emulator.client import EmulatorClient, EmulatorUnreachable

    if url is None:
        port = os.environ.get(f"{VARIABLE_PREFIX}PORT", "8000")
        url = f"http://127.0.0.1:{port}"
    keys = os.environ.get(f"{VARIABLE_PREFIX}API_KEY", "").split()
    try:
        with EmulatorClient(url, api_key=keys[0] if keys else "local") as emulator:
            yield emulator
    except EmulatorUnreachable as error:
        fail(str(error), EXIT_UNREACHABLE)
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)
    except EmulatorError as error:
        fail(str(error), EXIT_FAILED)


def fail(message: str, code: int) -> NoReturn:
    """Say what was wrong, and end with this code."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


def endpoint_id(emulator: EmulatorClient, given: str | None) -> str:
    """The endpoint that is meant: without a name the first."""
    if given is not None:
        return given
    return str(emulator.control("GET", "/endpoints")["endpoints"][0]["id"])


def tell(document: Any, as_json: bool, text: str) -> None:
    """Print an answer: for a program, or for a person."""
    typer.echo(json.dumps(document) if as_json else text)


def parsed(text: str, place: str) -> Any:
    """The value of a JSON text; `place` is the option that it is."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{place} is not JSON: {error}") from error


def duration(text: str) -> int:
    """A duration in ms, from `10s` or a number of ms."""
    try:
        return duration_ms(text, "ms")
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)


def given(**parameters: str | None) -> dict[str, str]:
    """Those parameters that have a value."""
    return {name: value for name, value in parameters.items() if value is not None}


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns are as wide as they need be."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (titles, *rows)
    ]
    return "\n".join(lines)


def shown_ms(value: int | None) -> str:
    """A number of ms, if there is one."""
    return "" if value is None else f"{value} ms"


def shortened(value: object, limit: int = 60) -> str:
    """An output or an error in part of a line."""
    text = "" if value is None else readable(value) if isinstance(value, str) else json.dumps(value)
    text = text.strip().splitlines()[-1] if text.strip() else ""
    return text if len(text) <= limit else f"{text[:limit]}…"


def readable(error: str) -> str:
    """An error as it reads best: of an exception, the traceback."""
    return explained(error)[1] or error


def read_input(given: str) -> Any:
    """A JSON value that was given: as text, `@FILE`, or `-` for standard input."""
    if given == "-":
        return parsed(sys.stdin.read(), "standard input")
    if given.startswith("@"):
        try:
            return parsed(Path(given[1:]).read_text(encoding="utf-8"), given[1:])
        except OSError as error:
            raise ConfigError(f"{given[1:]}: {error.strerror}") from error
    return parsed(given, "the argument")
