"""The commands about a state file, whether an emulator runs on it or not."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli.asking import EXIT_FAILED, AsJSON, fail, tell
from emulator.cli.help import Command, Commands
from emulator.errors import StateError
from emulator.settings import VARIABLE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

state_commands = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    help="Look into a state file (serve --state), and carry it elsewhere.",
    no_args_is_help=True,
)

File = Annotated[
    Path,
    typer.Argument(metavar="FILE", envvar=f"{VARIABLE_PREFIX}STATE", help="The state file (EMULATOR_STATE)."),
]


@state_commands.command("show", cls=Command)
def state_show(file: File, as_json: AsJSON = False) -> None:
    """What is in the file; an emulator may be running on it."""
    from emulator.ledger.carrying import read_state

    with _refusals():
        state = read_state(file)
        jobs: dict[str, Counter[str]] = {}
        for request, job in state.jobs:
            jobs.setdefault(request.endpoint, Counter())[job.status] += 1
        parts = Counter(part.kind for part in state.parts)
        size = file.stat().st_size
        told = {
            "file": str(file),
            "bytes": size,
            "jobs": jobs,
            "webhooks": len(state.deliveries),
            "chunks": len(state.chunks),
            "endpoints": parts["endpoint"],
        }
        lines = [f"{file}, {size / 1024:.0f} KiB"]
        for endpoint_id, counts in jobs.items():
            counted = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
            lines.append(f"  {endpoint_id}  {counted}")
        lines.append(f"  {len(state.deliveries)} webhooks to deliver, {len(state.chunks)} chunks to read")
        tell(told, as_json, "\n".join(lines))


@state_commands.command("export", cls=Command)
def state_export(
    file: File,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to (default: the terminal).")
    ] = None,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Leave keys, secrets and webhooks' queries in.")
    ] = False,
) -> None:
    """Write it as lines of JSON; an emulator may be running on it."""
    from emulator.ledger.carrying import read_state
    from emulator.ledger.json_lines import lines_of

    with _refusals():
        lines = b"".join(lines_of(read_state(file), with_secrets=with_secrets))
        if output is None:
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()
        else:
            output.write_bytes(lines)


@state_commands.command("import", cls=Command)
def state_import(
    file: File,
    lines: Annotated[
        Path, typer.Argument(metavar="LINES", help="What `state export` wrote; - is standard input.")
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Forget what is in the file, if there is one.")
    ] = False,
) -> None:
    """Make a state file of lines of JSON, for `serve --state` to start from."""
    from emulator.ledger.carrying import write_state

    with _refusals():
        text = sys.stdin.buffer.read() if str(lines) == "-" else lines.read_bytes()
        count = write_state(file, text.splitlines(), replace=replace)
        typer.echo(f"{count} jobs")


@state_commands.command("compact", cls=Command)
def state_compact(file: File) -> None:
    """Make the file as small as what is in it; no emulator may be running on it."""
    from emulator.ledger.database import Database, check_place
    from emulator.ledger.lock import StateLock

    with _refusals():
        check_place(file)
        if not file.is_file():
            raise StateError(f"there is no state file {file}")
        before = file.stat().st_size
        lock = StateLock(file)
        try:
            with closing(Database(file)) as database:
                database.compact()
        finally:
            lock.let_go()
        typer.echo(f"{before / 1024:.0f} KiB → {file.stat().st_size / 1024:.0f} KiB")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except StateError as error:
        fail(str(error), EXIT_FAILED)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", EXIT_FAILED)
