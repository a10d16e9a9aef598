"""How the commands ask an emulator that is running, and tell what it answered."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import urlsplit

import typer

from emulator.cli.terminal_text import printable, short_ids
from emulator.core.durations import duration_ms
from emulator.core.job_error import explained
from emulator.errors import ConfigError, EmulatorError
from emulator.settings import VARIABLE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from emulator.client import EmulatorClient, JobClient

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_TIMED_OUT = 4
UNAUTHORIZED = 401

#: No shorter beginning of a job's id is looked for.
_PREFIX_MIN = 4
_CONNECTION = "Which emulator"
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        envvar=f"{VARIABLE_PREFIX}URL",
        help="Where it serves (EMULATOR_URL; RUNPOD_ENDPOINT_BASE_URL if that is this machine; else port"
        " EMULATOR_PORT, 8000).",
        rich_help_panel=_CONNECTION,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar=[f"{VARIABLE_PREFIX}API_KEY", "RUNPOD_API_KEY"],
        help="A key that passes (EMULATOR_API_KEY, RUNPOD_API_KEY), where not any does.",
        rich_help_panel=_CONNECTION,
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
EndpointId = Annotated[
    str | None, typer.Option("--endpoint", metavar="ID", help="The endpoint (default: the first).")
]
OfEndpoint = Annotated[
    str | None, typer.Option("--endpoint", metavar="ID", help="An endpoint that has a time of its own.")
]
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's id, or as much of its beginning as is unique.")
]
#: What the refusal of a request is, when the request was wrong in itself.
_WRONG_REQUEST = frozenset({400, 422})


@contextmanager
def running_emulator(url: str | None, api_key: str | None = None) -> Iterator[EmulatorClient]:
    """The emulator that is talked to; what goes wrong becomes a sentence and an exit code."""
    from emulator.client import CallRefused, EmulatorClient, EmulatorUnreachable, Refused

    keys = (api_key or "").split()
    try:
        with EmulatorClient(address(url), api_key=keys[0] if keys else "local") as emulator:
            yield emulator
    except EmulatorUnreachable as error:
        fail(str(error), EXIT_UNREACHABLE)
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)
    except (CallRefused, Refused) as error:
        if error.status == UNAUTHORIZED:
            what = "the key is none that passes" if keys else "it takes certain keys alone"
            fail(
                f"{what} at {address(url)}: give one with --api-key, EMULATOR_API_KEY or RUNPOD_API_KEY",
                EXIT_FAILED,
            )
        message = error.detail if isinstance(error, CallRefused) else str(error)
        fail(message, EXIT_USAGE if error.status in _WRONG_REQUEST else EXIT_FAILED)
    except EmulatorError as error:
        fail(str(error), EXIT_FAILED)


def address(given: str | None) -> str:
    """The URL of the emulator that is meant, from what was given or from the variables that tell of one."""
    base_url = os.environ.get("RUNPOD_ENDPOINT_BASE_URL", "")
    if not given and is_this_machine(base_url):
        given = base_url
    if not given:
        return f"http://127.0.0.1:{os.environ.get(f'{VARIABLE_PREFIX}PORT') or 8000}"
    given = given if "://" in given else f"http://{given}"
    url = given.rstrip("/").removesuffix("/_emulator")
    # What SDKs are given.
    return url.partition("/v2")[0]


def is_this_machine(url: str) -> bool:
    """Whether a URL points to this machine."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost")


def fail(message: str, code: int) -> NoReturn:
    """Say what was wrong, and end with this code."""
    typer.echo(printable(f"error: {message}"), err=True)
    raise typer.Exit(code)


def endpoint_id(emulator: EmulatorClient, given: str | None) -> str:
    """The endpoint that is meant: without a name the first."""
    if given is not None:
        return given
    return str(emulator.control("GET", "/endpoints")["endpoints"][0]["id"])


def tell(document: Any, as_json: bool, text: str) -> None:
    """Print an answer: for a program, or for a person."""
    typer.echo(json.dumps(document) if as_json else printable(text))


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
        fail(f"{error}; time moves forward alone" if text.startswith("-") else str(error), EXIT_USAGE)


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


def shown_id(job_id: str) -> str:
    """A job's id: short for a person, whole for a program that reads what is printed."""
    return short_ids(job_id) if sys.stdout.isatty() else job_id


def found_job(emulator: EmulatorClient, given: str) -> JobClient:
    """The job with this id, or whose id alone begins so.

    :raises Refused: there is none, or more than one.
    """
    from emulator.client import Refused

    try:
        view = emulator.control("GET", f"/jobs/{given}")
    except Refused as error:
        listed = emulator.control("GET", "/jobs", limit="10000")["jobs"] if len(given) >= _PREFIX_MIN else ()
        found = [view for view in listed if view["id"].startswith(given)]
        if len(found) > 1:
            raise Refused(409, f"{len(found)} jobs begin with {given!r}: give more of the id") from None
        if error.status != 404 or not found:
            raise
        view = found[0]
    return emulator.endpoint(view["endpoint"]).job(view["id"])


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
    if given in ("-", "@-"):
        return parsed(sys.stdin.read(), "standard input")
    if given.startswith("@"):
        try:
            return parsed(Path(given[1:]).read_text(encoding="utf-8"), given[1:])
        except OSError as error:
            raise ConfigError(f"{given[1:]}: {error.strerror}") from error
    return parsed(given, "the argument")
