"""`serve`: parses, builds, prints."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from emulator.cli.banner import banner
from emulator.cli.log_format import LogFormat, configure_logging, log
from emulator.cli.reload import reloading
from emulator.clock.clock import clock_of
from emulator.core.config import EndpointConfig, WorkerKind, words_of
from emulator.core.scaling import ScalerType
from emulator.emulator import Emulator
from emulator.errors import ConfigError, EmulatorError
from emulator.history.journal import ENTRIES_KEPT
from emulator.settings import (
    VARIABLE_PREFIX,
    ConfigFile,
    duration_ms,
    endpoints_of,
    from_folder,
    interpreter,
    read_config_file,
    unknown_variables,
    work_in,
    worker_env,
)

_DEFAULTS = EndpointConfig()
_GC_THRESHOLD = 50_000
#: Real seconds that tasks which have been cancelled get to end.
_LAST_PATIENCE_S = 0.1
LogLevel = Literal["debug", "info", "warning", "error"]


def _option(name: str, text: str, **more: Any) -> Any:
    """An option that can also be given as EMULATOR_NAME and in emulator.toml."""
    variable = VARIABLE_PREFIX + name.split("/")[0].lstrip("-").replace("-", "_").upper()
    return typer.Option(name, envvar=variable, help=text, **more)


def _apply_config_file(context: typer.Context, path: Path | None) -> Path | None:
    """Let the file set what neither an option nor a variable does."""
    known = {parameter.name: parameter for parameter in context.command.params if parameter.name != "config"}
    try:
        file = read_config_file(path, [name for name in known if name is not None])
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    context.default_map = {
        name: [value] if isinstance(value, str) and getattr(known[name], "multiple", False) else value
        for name, value in file.options.items()
    }
    context.obj = file
    return path


def serve(
    context: typer.Context,
    handler: Annotated[
        str | None,
        typer.Argument(
            envvar="EMULATOR_HANDLER",
            help="A script (handler.py), a function (handler.py:function, module:function),"
            " or nothing for the built-in mock worker.",
        ),
    ] = None,
    worker_args: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- ARGS]", help="Arguments for the handler's script, after --."),
    ] = None,
    config: Annotated[
        Path | None,
        _option(
            "--config",
            "A file with settings (default: emulator.toml, if there is one).",
            callback=_apply_config_file,
            is_eager=True,
        ),
    ] = None,
    host: Annotated[str, _option("--host", "The address to serve on.")] = "127.0.0.1",
    port: Annotated[int, _option("--port", "The port; 0 takes any that is free.", min=0, max=65535)] = 8000,
    endpoint: Annotated[
        list[str] | None,
        _option("--endpoint", "An endpoint's id, or ID=HANDLER; may be repeated.", metavar="ID[=HANDLER]"),
    ] = None,
    worker_kind: Annotated[
        WorkerKind,
        _option(
            "--worker-kind",
            "Who runs the handler: processes, the emulator itself, or workers from elsewhere.",
        ),
    ] = WorkerKind.PROCESS,
    command: Annotated[
        str | None,
        _option(
            "--command",
            "What worker processes run in place of a handler, as an image's CMD: 'python -m app.handler',"
            " './start.sh', 'node worker.mjs'.",
        ),
    ] = None,
    workdir: Annotated[
        Path | None,
        _option("--workdir", "The folder workers run in, as an image's WORKDIR (default: this one)."),
    ] = None,
    python: Annotated[
        str | None, _option("--python", "The interpreter of worker processes (default: the emulator's own).")
    ] = None,
    reload: Annotated[
        bool | None,
        _option("--reload/--no-reload", "Take up changed code at once (default: on a terminal)."),
    ] = None,
    workers_min: Annotated[
        int, _option("--workers-min", "Workers that are always up.")
    ] = _DEFAULTS.workers_min,
    workers_max: Annotated[int, _option("--workers-max", "Never more workers.")] = _DEFAULTS.workers_max,
    idle_timeout: Annotated[
        str, _option("--idle-timeout", "How long a worker stays up without a job (a bare number is s).")
    ] = f"{_DEFAULTS.idle_timeout_s:g}s",
    execution_timeout: Annotated[
        str, _option("--execution-timeout", "How long a handler may take (a bare number is ms).")
    ] = f"{_DEFAULTS.execution_timeout_ms}ms",
    scaler_type: Annotated[
        ScalerType, _option("--scaler-type", "When workers are added.")
    ] = _DEFAULTS.scaler_type,
    scaler_value: Annotated[
        int, _option("--scaler-value", "QUEUE_DELAY: seconds a job may wait; REQUEST_COUNT: jobs per worker.")
    ] = _DEFAULTS.scaler_value,
    cold_start: Annotated[
        str, _option("--cold-start", "How long a worker takes to start (a bare number is ms).")
    ] = f"{_DEFAULTS.cold_start_ms}ms",
    flashboot: Annotated[
        bool, _option("--flashboot/--no-flashboot", "Park idle workers instead of ending them.")
    ] = False,
    system_checks: Annotated[
        bool,
        _option("--system-checks/--no-system-checks", "Let the SDK check network, memory and disk at start."),
    ] = False,
    api_key: Annotated[
        list[str] | None, _option("--api-key", "A key that passes (default: any does); may be repeated.")
    ] = None,
    no_auth: Annotated[bool, _option("--no-auth", "Ask for no key at all.")] = False,
    rate_limits: Annotated[
        bool, _option("--rate-limits/--no-rate-limits", "Enforce production's rate limits.")
    ] = True,
    rate_limit_scale: Annotated[float, _option("--rate-limit-scale", "Multiplies every limit.")] = 1.0,
    journal_entries: Annotated[
        int, _option("--journal-entries", "How much of each kind the journal keeps; 0 keeps nothing.", min=0)
    ] = ENTRIES_KEPT,
    clock: Annotated[str, _option("--clock", "How time runs.", metavar="real|frozen|auto|scaled:N")] = "real",
    log_format: Annotated[
        LogFormat, _option("--log-format", "For a person or for a program.")
    ] = LogFormat.TEXT,
    log_level: Annotated[LogLevel, _option("--log-level", "The least that is logged.")] = "info",
) -> None:
    """Serve a handler as an endpoint.

    Every option can be set by a variable (EMULATOR_PORT=9000) and in emulator.toml (port = 9000); an
    option beats a variable, a variable beats the file.
    """
    configure_logging(log_format, log_level)
    variables = [str(parameter.envvar) for parameter in context.command.params if parameter.envvar]
    for warning in unknown_variables([*variables, f"{VARIABLE_PREFIX}URL"]):
        log.warning(warning)
    file: ConfigFile = context.obj
    nearness = {name: _nearness(context, name) for name in ("handler", "command")}
    if handler is not None and handler.startswith("-"):
        # After `serve --` the first argument stands where the handler would.
        worker_args = [handler, *(worker_args or ())]
        handler, nearness["handler"] = os.environ.get("EMULATOR_HANDLER"), _VARIABLE
        if not handler:
            handler, nearness["handler"] = context.lookup_default("handler"), _FILE
    if handler is not None and nearness["handler"] == _FILE and workdir is None:
        handler = from_folder(file.folder, handler)
    if nearness["handler"] < nearness["command"]:
        handler = None
    elif nearness["handler"] > nearness["command"]:
        command = None
    try:
        defaults = EndpointConfig(
            worker_kind=worker_kind,
            command=() if command is None else words_of(command),
            python=interpreter(python) if python else None,
            worker_env=worker_env(),
            worker_args=tuple(worker_args or ()),
            flashboot=flashboot,
            system_checks=system_checks,
            workers_min=workers_min,
            workers_max=workers_max,
            idle_timeout_s=duration_ms(idle_timeout, "s") / 1000,
            execution_timeout_ms=duration_ms(execution_timeout, "ms"),
            scaler_type=scaler_type,
            scaler_value=scaler_value,
            cold_start_ms=duration_ms(cold_start, "ms"),
        )
        folder = Path() if workdir else file.folder
        endpoints = endpoints_of(handler, endpoint or (), defaults, file.endpoints, folder)
        # Only now: the paths of the command line start where it was given.
        work_in(workdir)
        emulator = Emulator(
            endpoints,
            clock=clock_of(clock),
            api_keys=[key for key in api_key or () if key],
            auth=not no_auth,
            rate_limits=rate_limits,
            rate_limit_scale=rate_limit_scale,
            journal_entries=journal_entries,
        )
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            reload = sys.stderr.isatty() if reload is None else reload
            runner.run(_serve(emulator, host, port, reload=reload, workdir=workdir))
    except EmulatorError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


#: How near a setting is to the user: a nearer one takes the place of another that says the same.
_FILE, _VARIABLE = 1, 2
_NEARNESS = {"DEFAULT_MAP": _FILE, "ENVIRONMENT": _VARIABLE, "COMMANDLINE": 3}


def _nearness(context: typer.Context, name: str) -> int:
    source = context.get_parameter_source(name)
    return 0 if source is None else _NEARNESS.get(source.name, 0)


async def _serve(emulator: Emulator, host: str, port: int, *, reload: bool, workdir: Path | None) -> None:
    stop = asyncio.Event()
    _on_stop_signals(stop.set)
    async with emulator, emulator.serve(host, port), reloading(emulator, enabled=reload):
        typer.echo(banner(emulator, reload=reload, in_folder=None if workdir is None else Path.cwd()))
        # What is loaded by now stays: the garbage collector need not look through it again and again,
        # nor start for every few hundred objects of a job.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        typer.echo("Ready.")
        sys.stdout.flush()
        await stop.wait()
        log.info("stopping")
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left and (await asyncio.wait(left, timeout=_LAST_PATIENCE_S))[1]:
        # A handler that ignores its cancellation would keep the process alive for ever.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _on_stop_signals(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        if sys.platform == "win32":
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
        else:
            loop.add_signal_handler(number, stop)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
