"""The command line: which commands there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli import endpoint_commands, job_commands
from emulator.cli.clock_commands import clock_commands
from emulator.cli.doctor import doctor
from emulator.cli.exec import exec_
from emulator.cli.fault_commands import fault_commands
from emulator.cli.help import Command, Commands
from emulator.cli.hub_tests import hub_tests
from emulator.cli.invoke import invoke
from emulator.cli.serve import serve
from emulator.cli.state_commands import state_commands
from emulator.cli.worker_commands import worker_commands
from emulator.serving.healthcheck import healthcheck as check_health
from emulator.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

cli = typer.Typer(
    name="runpod-emulator",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_RUN, _JOBS, _REST = "Run handlers", "Jobs of an emulator that runs", "Look at it, and steer it"
_MACHINE = "This machine"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@cli.callback()
def main(
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """A local emulator of the Runpod Serverless endpoint API.

    `runpod-emulator COMMAND --help` tells more. Exit codes: 0 done, 1 failed, 2 wrong
    usage, 3 no emulator answers, 4 timed out.
    """


cli.command(cls=Command, rich_help_panel=_RUN)(serve)
cli.command("invoke", cls=Command, rich_help_panel=_RUN)(invoke)
cli.command("test", cls=Command, rich_help_panel=_RUN)(hub_tests)
cli.command("exec", cls=Command, rich_help_panel=_RUN)(exec_)


def _add(group: str, *functions: Callable[..., None]) -> None:
    for function in functions:
        cli.command(cls=Command, rich_help_panel=group)(function)


_add(_JOBS, job_commands.submit, job_commands.status, job_commands.jobs, job_commands.logs)
_add(_JOBS, job_commands.cancel, job_commands.retry, endpoint_commands.purge)
_add(_REST, endpoint_commands.health)
cli.add_typer(worker_commands, name="workers", rich_help_panel=_REST)
cli.add_typer(clock_commands, name="clock", rich_help_panel=_REST)
cli.add_typer(fault_commands, name="faults", rich_help_panel=_REST)
_add(_REST, endpoint_commands.reset, endpoint_commands.env)
cli.add_typer(state_commands, name="state", rich_help_panel=_MACHINE)
_add(_MACHINE, doctor)


@cli.command(cls=Command, rich_help_panel=_MACHINE)
def healthcheck() -> None:
    """Exit with 0 when the emulator of this machine serves (EMULATOR_HOST, EMULATOR_PORT)."""
    raise typer.Exit(check_health())


@cli.command(cls=Command, hidden=True)
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
