"""`serve`: parses, builds, prints."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from emulator.cli.asking import EXIT_FAILED, EXIT_USAGE
from emulator.cli.banner import banner
from emulator.cli.garbage import Garbage
from emulator.cli.help import words_before_dashes
from emulator.cli.log_format import LogFormat, configure_logging, flush_log, log, log_of_server
from emulator.cli.reload import reloading
from emulator.cli.stop_signals import on_stop_signals
from emulator.clock.clock import clock_of
from emulator.core.config import EndpointConfig, WorkerKind, words_of
from emulator.core.container import ContainerSettings
from emulator.core.durations import duration_ms
from emulator.core.placement import Placement
from emulator.core.request import MissingInput
from emulator.core.scaling import ScalerType
from emulator.emulator import Emulator
from emulator.errors import ClockError, ConfigError, EmulatorError
from emulator.history.journal import ENTRIES_KEPT
from emulator.serving.loop_watch import LoopWatch
from emulator.settings import (
    CODE_TOKEN_VARIABLE,
    VARIABLE_PREFIX,
    ConfigFile,
    as_options,
    check_exposure,
    endpoints_of,
    from_folder,
    given_keys,
    interpreter,
    read_config_file,
    resources_of,
    unknown_variables,
    work_in,
    worker_env,
)
from emulator.workers.handler import HandlerError

_DEFAULTS = EndpointConfig()
#: Real seconds that tasks which have been cancelled get to end.
_LAST_PATIENCE_S = 0.1
LogLevel = Literal["debug", "info", "warning", "error"]
StateSync = Literal["full", "normal", "off"]


#: How the options are grouped in the help.
_GROUPS = {
    "Handler and workers": "worker-kind command module workdir python reload system-checks",
    "Containers": "image gpus memory cpus volume shm-size platform user network worker-address",
    "Cluster": "ray-address num-cpus num-gpus resource",
    "Endpoint settings": "endpoint workers-min workers-max idle-timeout execution-timeout scaler-type"
    " scaler-value cold-start flashboot",
    "Who may call": "host port tls tls-port api-key no-auth allow-host allow-origin insecure"
    " allow-code-over-http rate-limits rate-limit-scale",
    "The emulator": "config clock state state-sync journal-entries result-limit missing-input s3"
    " log-format log-level",
}
#: What the help calls their values.
_VALUES = {
    "config": "FILE",
    "host": "ADDRESS",
    "port": "N",
    "tls-port": "N",
    "worker-kind": "KIND",
    "command": "COMMAND",
    "workdir": "FOLDER",
    "python": "PATH",
    "image": "IMAGE",
    "gpus": "all|N|IDS",
    "memory": "SIZE",
    "cpus": "N",
    "volume": "FOLDER[:PATH][:ro]",
    "shm-size": "SIZE",
    "platform": "PLATFORM",
    "user": "USER",
    "network": "NETWORK",
    "worker-address": "HOST[:PORT]",
    "ray-address": "ADDRESS",
    "num-cpus": "N",
    "num-gpus": "N",
    "resource": "NAME=AMOUNT",
    "workers-min": "N",
    "workers-max": "N",
    "idle-timeout": "DURATION",
    "execution-timeout": "DURATION",
    "scaler-type": "TYPE",
    "scaler-value": "N",
    "cold-start": "DURATION",
    "api-key": "KEY",
    "allow-host": "NAME",
    "rate-limit-scale": "NUMBER",
    "journal-entries": "N",
    "state": "FILE",
    "state-sync": "full|normal|off",
    "log-format": "text|json",
    "log-level": "LEVEL",
    "result-limit": "MIB",
    "missing-input": "refuse|accept",
    "allow-origin": "ORIGIN",
}


def _option(name: str, text: str, *short: str, **more: Any) -> Any:
    """An option that can also be given as EMULATOR_NAME and in emulator.toml."""
    plain = name.split("/")[0].lstrip("-")
    group = next((group for group, names in _GROUPS.items() if plain in names.split()), None)
    more.setdefault("metavar", _VALUES.get(plain))
    variable = VARIABLE_PREFIX + plain.replace("-", "_").upper()
    return typer.Option(name, *short, envvar=variable, help=text, rich_help_panel=group, **more)


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
    tls: Annotated[
        bool,
        _option("--tls/--no-tls", "Serve HTTPS too, as api.runpod.ai, with a certificate of its own."),
    ] = False,
    tls_port: Annotated[
        int, _option("--tls-port", "The port of HTTPS; 0 takes any that is free.", min=0, max=65535)
    ] = 443,
    worker_kind: Annotated[
        WorkerKind,
        _option(
            "--worker-kind",
            "Who runs the handler: process, inline (the emulator itself), docker (an image's containers), ray"
            " (processes on a Ray cluster), or external (workers from elsewhere).",
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
    module: Annotated[
        str | None,
        _option(
            "--module",
            "A module that starts a worker, as python -m runs it: the same as --command 'python -m MODULE'.",
            "-m",
            metavar="MODULE",
        ),
    ] = None,
    workdir: Annotated[
        Path | None,
        _option("--workdir", "The folder workers run in, as an image's WORKDIR (default: this one)."),
    ] = None,
    python: Annotated[
        str | None, _option("--python", "The interpreter of worker processes (default: the emulator's own).")
    ] = None,
    image: Annotated[
        str | None,
        _option("--image", "The image you deploy, in place of a handler: each worker is a container of it."),
    ] = None,
    gpus: Annotated[str, _option("--gpus", "The GPUs that containers see.")] = "",
    memory: Annotated[str, _option("--memory", "The most memory of each container, as 512m or 8g.")] = "",
    cpus: Annotated[float, _option("--cpus", "The most CPUs of each container; 0 is no limit.")] = 0.0,
    volume: Annotated[
        list[str] | None,
        _option("--volume", "A folder that containers see as /runpod-volume, or at PATH; may be repeated."),
    ] = None,
    shm_size: Annotated[str, _option("--shm-size", "The size of each container's /dev/shm.")] = "",
    platform: Annotated[str, _option("--platform", "The image's platform, as linux/amd64.")] = "",
    user: Annotated[str, _option("--user", "The user in containers (default: the image's).")] = "",
    network: Annotated[str, _option("--network", "The engine's network for containers.")] = "",
    worker_address: Annotated[
        str | None,
        _option(
            "--worker-address",
            "Where containers, or a cluster's nodes, reach the emulator, if it cannot be found out; a door"
            " for workers alone opens there.",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        _option(
            "--ray-address",
            "The Ray cluster of worker kind ray: auto, ray://HOST:PORT, HOST:PORT (default: one on this"
            " machine).",
        ),
    ] = None,
    num_cpus: Annotated[
        float, _option("--num-cpus", "The CPUs that each worker takes of a node.")
    ] = _DEFAULTS.placement.num_cpus,
    num_gpus: Annotated[
        float, _option("--num-gpus", "The GPUs that each worker takes of a node.")
    ] = _DEFAULTS.placement.num_gpus,
    resource: Annotated[
        list[str] | None,
        _option("--resource", "A custom resource that each worker takes of a node; may be repeated."),
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
        str, _option("--idle-timeout", "How long a worker stays up without a job; a bare number is s.")
    ] = f"{_DEFAULTS.idle_timeout_s:g}s",
    execution_timeout: Annotated[
        str, _option("--execution-timeout", "How long a handler may take; a bare number is ms.")
    ] = f"{_DEFAULTS.execution_timeout_ms // 60_000}m",
    scaler_type: Annotated[
        ScalerType, _option("--scaler-type", "When workers are added: QUEUE_DELAY or REQUEST_COUNT.")
    ] = _DEFAULTS.scaler_type,
    scaler_value: Annotated[
        int, _option("--scaler-value", "QUEUE_DELAY: seconds a job may wait; REQUEST_COUNT: jobs per worker.")
    ] = _DEFAULTS.scaler_value,
    cold_start: Annotated[
        str, _option("--cold-start", "How much longer a worker takes to start; a bare number is ms.")
    ] = f"{_DEFAULTS.cold_start_ms}ms",
    result_limit: Annotated[
        int | None,
        _option(
            "--result-limit",
            "MiB that a result may have (default: production's 10 for /run, 20 for /runsync).",
        ),
    ] = None,
    missing_input: Annotated[
        MissingInput,
        _option(
            "--missing-input",
            "Refuse a request without input, or accept it, as production does.",
        ),
    ] = _DEFAULTS.missing_input,
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
    insecure: Annotated[
        bool,
        _option("--insecure", "Listen beyond this machine without a key: who reaches the port may do all."),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        _option("--allow-host", "A name it may be called by, beside this machine's; may be repeated."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        _option("--allow-origin", "A web page's origin that may call the endpoints; may be repeated."),
    ] = None,
    allow_code_over_http: Annotated[
        bool,
        _option("--allow-code-over-http", "Let the control API set what workers run: handlers, commands."),
    ] = False,
    rate_limits: Annotated[
        bool, _option("--rate-limits/--no-rate-limits", "Enforce production's rate limits.")
    ] = True,
    rate_limit_scale: Annotated[float, _option("--rate-limit-scale", "Multiplies every limit.")] = 1.0,
    journal_entries: Annotated[
        int, _option("--journal-entries", "How much of each kind the journal keeps; 0 keeps nothing.", min=0)
    ] = ENTRIES_KEPT,
    s3: Annotated[
        bool, _option("--s3/--no-s3", "Start a local S3 store, and hand its variables to workers.")
    ] = False,
    state: Annotated[
        Path | None,
        _option("--state", "Keep all jobs and the rest of the state in this file, for the next start."),
    ] = None,
    state_sync: Annotated[
        StateSync,
        _option(
            "--state-sync",
            "What the state survives: normal the end of the process, full a loss of power too; off is the"
            " same as normal, unless power is lost: then the file may be damaged.",
        ),
    ] = "normal",
    clock: Annotated[str, _option("--clock", "How time runs.", metavar="real|frozen|auto|scaled:N")] = "real",
    open_page: Annotated[bool, _option("--open/--no-open", "Open the console in the browser.")] = False,
    log_format: Annotated[
        LogFormat, _option("--log-format", "For a person or for a program.")
    ] = LogFormat.TEXT,
    log_level: Annotated[
        LogLevel, _option("--log-level", "The least that is logged: debug, info, warning or error.")
    ] = "info",
) -> None:
    """Serve a handler as an endpoint.

    Every option can be set by a variable (EMULATOR_PORT=9000) and in emulator.toml (port = 9000); an
    option beats a variable, a variable beats the file.
    """
    configure_logging(log_format, log_level, log_of_server())
    variables = [str(parameter.envvar) for parameter in context.command.params if parameter.envvar]
    for warning in unknown_variables([*variables, f"{VARIABLE_PREFIX}URL", CODE_TOKEN_VARIABLE]):
        log.warning(warning)
    file: ConfigFile = context.obj
    nearness = {name: _nearness(context, name) for name in ("handler", "command", "image", "worker_kind")}
    words = [*([handler] if nearness["handler"] == _COMMAND_LINE else []), *(worker_args or ())]
    before = words_before_dashes(context, len(words))
    if before > 1:
        typer.echo(f"error: {_too_many(words[1], words[0])}", err=True)
        raise typer.Exit(EXIT_USAGE)
    if words and not before:
        # After `serve --` the first argument stands where the handler would.
        worker_args = words
        handler, nearness["handler"] = os.environ.get("EMULATOR_HANDLER"), _VARIABLE
        if not handler:
            handler, nearness["handler"] = context.lookup_default("handler"), _FILE
    if handler is not None and nearness["handler"] == _FILE and workdir is None:
        handler = from_folder(file.folder, handler)
    if module is not None:
        if nearness["command"] == _COMMAND_LINE or nearness["handler"] == _COMMAND_LINE:
            other = command if nearness["command"] == _COMMAND_LINE else handler
            typer.echo(f"error: there is a module ({module}) and {other}: give one of them", err=True)
            raise typer.Exit(EXIT_USAGE)
        handler, command = None, shlex.join(["python", "-m", module])
    elif nearness["handler"] < nearness["command"]:
        handler = None
    elif nearness["handler"] > nearness["command"]:
        command = None
    if image is not None and nearness["image"] < nearness["handler"]:
        image = None
    elif image is not None and nearness["handler"] < nearness["image"]:
        handler = None
    if image is not None and not nearness["worker_kind"]:
        worker_kind = WorkerKind.DOCKER
    try:
        defaults = EndpointConfig(
            image=image,
            container=ContainerSettings(
                gpus=gpus,
                memory=memory,
                cpus=cpus,
                volumes=tuple(volume or ()),
                shm_size=shm_size,
                platform=platform,
                user=user,
                network=network,
            ),
            placement=Placement(num_cpus=num_cpus, num_gpus=num_gpus, resources=resources_of(resource or ())),
            worker_kind=worker_kind,
            command=() if command is None else words_of(command),
            python=interpreter(python) if python else None,
            worker_env=worker_env(),
            worker_args=tuple(worker_args or ()),
            flashboot=flashboot,
            result_limit_mib=result_limit,
            missing_input=missing_input,
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
        if defaults.container != ContainerSettings() and not any(each.image for each in endpoints.values()):
            raise ConfigError("what was said of containers is of no use: there is no image (--image)")
        _check_cluster(ray_address, defaults, endpoints)
        if nearness["handler"] == _COMMAND_LINE and before:
            _check_used(str(handler), endpoint or (), endpoints)
        state = None if state is None else state.absolute()
        # Only now: the paths of the command line start where it was given.
        work_in(workdir)
        api_keys = given_keys(api_key)
        check_exposure(host, asks_for_key=bool(api_keys) and not no_auth, insecure=insecure)
        emulator = Emulator(
            endpoints,
            clock=clock_of(clock),
            api_keys=api_keys,
            allow_hosts=allow_host or (),
            allow_origins=allow_origin or (),
            worker_address=worker_address,
            ray_address=ray_address or None,
            code_over_http=allow_code_over_http,
            code_token=os.environ.get(CODE_TOKEN_VARIABLE),
            auth=not no_auth,
            rate_limits=rate_limits,
            rate_limit_scale=rate_limit_scale,
            journal_entries=journal_entries,
            s3=s3,
            state=state,
            state_sync=state_sync,
        )
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            reload = sys.stderr.isatty() if reload is None else reload
            ports = port, tls_port if tls else None
            runner.run(_serve(emulator, host, ports, reload=reload, workdir=workdir, open_page=open_page))
        # `logging` would at its end, unless a handler of this process has set it up anew.
        flush_log()
    except (ConfigError, ClockError, HandlerError) as error:
        flush_log()
        typer.echo(f"error: {as_options(str(error))}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    except EmulatorError as error:
        flush_log()
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None


def _too_many(second: str, first: str) -> str:
    return (
        f"{second!r} is a second handler beside {first!r}: more endpoints are given as --endpoint ID=HANDLER,"
        " and arguments for the handler's script after --"
    )


def _check_used(handler: str, specs: Sequence[str], endpoints: Mapping[str, EndpointConfig]) -> None:
    """See to it that a handler that was given is some endpoint's.

    :raises ConfigError: each has one of its own.
    """
    if specs and all(config.handler != handler for config in endpoints.values()):
        raise ConfigError(
            f"{handler} is the handler of no endpoint: each --endpoint has its own; leave it out, or name"
            " an endpoint for it (--endpoint ID)"
        )


def _check_cluster(
    ray_address: str | None, defaults: EndpointConfig, endpoints: Mapping[str, EndpointConfig]
) -> None:
    """See to it that what was said of a cluster is of some endpoint.

    :raises ConfigError: none has its workers there.
    """
    if any(config.worker_kind is WorkerKind.RAY for config in endpoints.values()):
        return
    if ray_address or defaults.placement != Placement():
        raise ConfigError("what was said of a cluster is of no use: say --worker-kind ray")


#: How near a setting is to the user: a nearer one takes the place of another that says the same.
_FILE, _VARIABLE, _COMMAND_LINE = 1, 2, 3
_NEARNESS = {"DEFAULT_MAP": _FILE, "ENVIRONMENT": _VARIABLE, "COMMANDLINE": _COMMAND_LINE}


def _nearness(context: typer.Context, name: str) -> int:
    source = context.get_parameter_source(name)
    return 0 if source is None else _NEARNESS.get(source.name, 0)


async def _serve(
    emulator: Emulator,
    host: str,
    ports: tuple[int, int | None],
    *,
    reload: bool,
    workdir: Path | None,
    open_page: bool,
) -> None:
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    async with AsyncExitStack() as running:
        if not await _starts(emulator, stop):
            return
        running.push_async_callback(emulator.stop)
        serving = emulator.serve(host, ports[0], tls_port=ports[1], control_when_asked=True)
        await running.enter_async_context(serving)
        await running.enter_async_context(reloading(emulator, enabled=reload))
        typer.echo(banner(emulator, reload=reload, in_folder=None if workdir is None else Path.cwd()))
        garbage = Garbage(lambda: emulator.job_count)
        running.callback(garbage.leave)
        typer.echo("Ready.")
        sys.stdout.flush()
        watch = LoopWatch()
        if open_page:
            await asyncio.to_thread(webbrowser.open, f"{emulator.url}/")
        await stop.wait()
        log.info("stopping")
    watch.end()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left and (await asyncio.wait(left, timeout=_LAST_PATIENCE_S))[1]:
        # A handler that ignores its cancellation would keep the process alive for ever.
        sys.stdout.flush()
        flush_log()
        os._exit(0)


async def _starts(emulator: Emulator, stop: asyncio.Event) -> bool:
    """Start it; False when it is to stop before that, as handlers may take long to load."""
    starting = asyncio.ensure_future(emulator.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting
    return not starting.cancelled()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
