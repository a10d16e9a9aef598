"""The command line: which commands there are."""

from __future__ import annotations

from typing import Annotated

import typer

from emulator.cli import job_commands
from emulator.cli.clock_commands import clock_commands
from emulator.cli.doctor import doctor
from emulator.cli.exec import exec_
from emulator.cli.fault_commands import fault_commands
from emulator.cli.hub_tests import hub_tests
from emulator.cli.invoke import invoke
from emulator.cli.serve import serve
from emulator.serving.healthcheck import healthcheck as check_health
from emulator.version import __version__

cli = typer.Typer(
    name="runpod-emulator",
    help="A local emulator of the Runpod Serverless endpoint API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
    """A local emulator of the Runpod Serverless endpoint API."""


cli.command()(serve)
cli.command("exec")(exec_)
cli.command()(invoke)
cli.command("test")(hub_tests)


for command in (
    job_commands.submit, job_commands.status, job_commands.jobs, job_commands.cancel, job_commands.retry,
    job_commands.logs, job_commands.reset, job_commands.env, doctor,
):  # fmt: skip
    cli.command()(command)
cli.add_typer(clock_commands, name="clock")
cli.add_typer(fault_commands, name="faults")


@cli.command()
def healthcheck() -> None:
    """Exit with 0 when the emulator of this machine serves (EMULATOR_HOST, EMULATOR_PORT)."""
    raise typer.Exit(check_health())


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
