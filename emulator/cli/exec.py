"""`exec`: an emulator for as long as a command runs."""

from __future__ import annotations

import inspect
import os
import secrets
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from emulator.cli.asking import EXIT_USAGE
from emulator.cli.serve import serve
from emulator.core.config import words_of
from emulator.errors import ConfigError
from emulator.settings import CODE_TOKEN_VARIABLE, configured_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Real seconds for `serve` to end by itself.
_STOP_PATIENCE_S = 10
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
#: Arguments and options that are not handed to `serve` as they are.
_OWN = frozenset({"command", "handler", "worker_args", "help"})
#: Where `exec` differs from `serve`.
_DEFAULTS = {"port": "0", "log-level": "warning"}


def exec_(context: typer.Context, command: list[str], handler: str | None, **_: object) -> None:
    """Start an emulator, run a command against it, stop it.

    The exit code is the command's. It gets RUNPOD_ENDPOINT_BASE_URL, RUNPOD_API_KEY and EMULATOR_URL. All
    options are those of `serve`, which variables and emulator.toml set too.
    """
    words: list[str] = []
    worker_words: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name == "worker_args" and value:
            worker_words = ["--", *words_of(value)]
        elif parameter.name not in _OWN and source is not None and source.name == "COMMANDLINE":
            words += _as_words(parameter, value)
    for name, default in _DEFAULTS.items():
        if f"--{name}" not in words:
            words += [f"--{name}", default]
    try:
        keys = configured_keys()
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    given_on_the_line = [words[place + 1] for place, word in enumerate(words) if word == "--api-key"]
    key = [*given_on_the_line, *keys, ""][0]
    # Whatever ends this command, the emulator must not be left behind.
    signal.signal(signal.SIGTERM, _exit_on_signal)
    token = secrets.token_urlsafe(16)
    options = [*([handler] if handler else []), *words, "--no-reload", *worker_words]
    with _served(options, token) as (url, variables):
        if key:
            variables["RUNPOD_API_KEY"] = key
        code = _run(command, {**os.environ, **variables, "EMULATOR_URL": url, CODE_TOKEN_VARIABLE: token})
    raise typer.Exit(code)


def _as_words(parameter: Any, value: Any) -> list[str]:
    """An option and its value as they are written on the command line."""
    name = parameter.opts[0]
    if isinstance(value, bool):
        return [name if value or not parameter.secondary_opts else parameter.secondary_opts[0]]
    each_value = value if isinstance(value, list | tuple) else [value]
    return [word for each in each_value for word in (name, str(getattr(each, "value", each)))]


def _signature() -> inspect.Signature:
    """All of serve's options, with what `exec` has in place of its arguments."""
    hints = get_type_hints(serve, include_extras=True)
    own: dict[str, Any] = {
        "context": typer.Context,
        "command": Annotated[
            list[str], typer.Argument(metavar="-- COMMAND [ARGS]", help="What to run, after --.")
        ],
        "handler": Annotated[
            str | None,
            typer.Option("--handler", metavar="HANDLER", help="What the endpoint runs, as for serve."),
        ],
        # Read by serve alone: here its keys would set what has the same name.
        "config": Annotated[
            Path | None,
            typer.Option("--config", metavar="FILE", help="A file with settings, as for serve."),
        ],
        "worker_args": Annotated[
            str | None,
            typer.Option(
                "--worker-args", metavar="ARGS", help="Arguments for the handler's script, in quotes."
            ),
        ],
    }
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(
            name, kind, annotation=annotation,
            default=inspect.Parameter.empty if name in ("context", "command") else None,
        )
        for name, annotation in own.items()
    ]  # fmt: skip
    for name, parameter in inspect.signature(serve).parameters.items():
        if name not in (*own, "reload") or name == "command":
            # The command that exec runs has this name already.
            name = "worker_command" if name == "command" else name
            parameters.append(parameter.replace(name=name, kind=kind, annotation=hints[parameter.name]))
    return inspect.Signature(parameters)


exec_.__signature__ = _signature()  # type: ignore[attr-defined]
exec_.__annotations__ = {
    name: parameter.annotation
    for name, parameter in exec_.__signature__.parameters.items()  # type: ignore[attr-defined]
}


def _exit_on_signal(number: int, _: object) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _served(options: list[str], code_token: str) -> Iterator[tuple[str, dict[str, str]]]:
    """An emulator in a process of its own; gives its URL and the SDK's variables."""
    process = subprocess.Popen(
        [sys.executable, "-m", "emulator", "serve", *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, CODE_TOKEN_VARIABLE: code_token},
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
