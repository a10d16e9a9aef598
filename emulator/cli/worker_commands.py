"""`workers`: which there are, and the containers that were left behind."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from emulator.cli.asking import EXIT_FAILED, ApiKey, AsJSON, Url, running_emulator, shown_id, table, tell
from emulator.cli.help import Command, Commands
from emulator.errors import EmulatorError
from emulator.workers.containers.engine import Engine
from emulator.workers.containers.labels import prune as prune_containers

worker_commands = typer.Typer(
    cls=Commands, invoke_without_command=True, rich_markup_mode=None, pretty_exceptions_enable=False
)


@worker_commands.callback()
def workers(context: typer.Context, url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False) -> None:
    """The workers, and what each is at."""
    if context.invoked_subcommand is not None:
        return
    with running_emulator(url, api_key) as emulator:
        found = emulator.control("GET", "/workers")
        rows = [
            (each["id"], each["endpoint"], each["kind"], each["state"],
             " ".join(map(shown_id, each["jobs"])) or each["reason"])
            for each in found["workers"]
        ]  # fmt: skip
        titles = ("worker", "endpoint", "kind", "state", "jobs, or why it is so")
        tell(found, as_json, table(titles, rows) if rows else "no workers are up")


@worker_commands.command(cls=Command)
def prune(
    everyones: Annotated[
        bool,
        typer.Option("--all", help="Remove those of emulators that run, and of other machines, as well."),
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Remove the containers that an emulator which was killed has left.

    Each emulator with an image does so when it starts. DOCKER_HOST names the
    engine.
    """
    try:
        removed = asyncio.run(_prune(everyones))
    except EmulatorError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    count = f"{len(removed)} {'container' if len(removed) == 1 else 'containers'} removed"
    tell({"removed": removed}, as_json, count)


async def _prune(everyones: bool) -> list[str]:
    engine = Engine()
    try:
        await engine.connect()
        return await prune_containers(engine, everyones=everyones)
    finally:
        await engine.close()
