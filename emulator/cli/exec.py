"""`exec`: an emulator for as long as a command runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.core.config import WorkerKind

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Real seconds for `serve` to end by itself.
_STOP_PATIENCE_S = 10
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def exec_(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND [ARGS]", help="What to run, after --.")],
    handler: Annotated[
        str | None, typer.Option("--handler", help="What the endpoint runs, as for serve.")
    ] = None,
    worker_command: Annotated[
        str | None,
        typer.Option("--command", help="What worker processes run in place of a handler, as for serve."),
    ] = None,
    workdir: Annotated[
        str | None, typer.Option("--workdir", help="The folder workers run in (default: this one).")
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option("--endpoint", help="An endpoint's id, or ID=HANDLER; may be repeated."),
    ] = None,
    worker_kind: Annotated[
        WorkerKind | None, typer.Option("--worker-kind", help="Who runs the handler.")
    ] = None,
    clock: Annotated[
        str | None, typer.Option("--clock", metavar="real|frozen|auto|scaled:N", help="How time runs.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="The port; 0 takes any that is free.")] = 0,
    log_level: Annotated[
        str, typer.Option("--log-level", help="The least of the emulator's log that is shown.")
    ] = "warning",
) -> None:
    """Start an emulator, run a command against it, stop it; the exit code is the command's.

    The command gets RUNPOD_ENDPOINT_BASE_URL, RUNPOD_API_KEY and EMULATOR_URL. All other settings of `serve`
    are taken from EMULATOR_ variables and emulator.toml.
    """
    options = [
        *([handler] if handler else []),
        *([f"--command={worker_command}"] if worker_command is not None else []),
        *([f"--workdir={workdir}"] if workdir is not None else []),
        *(part for each in endpoint or () for part in ("--endpoint", each)),
        *(["--worker-kind", worker_kind.value] if worker_kind else []),
        *(["--clock", clock] if clock else []),
        *("--port", str(port), "--log-level", log_level, "--no-reload"),
    ]
    # Whatever ends this command, the emulator must not be left behind.
    signal.signal(signal.SIGTERM, _exit_on_signal)
    with _served(options) as (url, variables):
        code = _run(command, {**os.environ, **variables, "EMULATOR_URL": url})
    raise typer.Exit(code)


def _exit_on_signal(number: int, _: object) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _served(options: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """An emulator in a process of its own; gives its URL and the SDK's variables."""
    process = subprocess.Popen(
        [sys.executable, "-m", "emulator", "serve", *options],
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the command; the emulator ends after it.
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        url, variables = "", {}
        for line in process.stdout:
            words = line.split()
            if line.startswith("  url "):
                url = words[1]
            elif line.startswith("  export "):
                name, _, value = words[1].partition("=")
                variables[name] = value
            elif words == ["Ready."]:
                break
        else:
            # It has said why.
            raise typer.Exit(process.wait() or 1)
        yield url, variables
    finally:
        process.terminate()
        try:
            process.wait(_STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(command: list[str], variables: dict[str, str]) -> int:
    """Run a command to its end; its exit code, as a shell tells it."""
    try:
        process = subprocess.Popen(command, env=variables)
    except FileNotFoundError:
        typer.echo(f"error: {command[0]}: there is no such command", err=True)
        return _NOT_FOUND
    except OSError as error:
        typer.echo(f"error: {command[0]}: {error.strerror}", err=True)
        return _NOT_EXECUTABLE

    def hand_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(number)

    # The terminal sends Ctrl-C to the command as well.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, hand_on)
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    return 128 - code if code < 0 else code
