"""What a person sets, by option, variable or file, turned into what the emulator is built from."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emulator.api.auth import is_loopback
from emulator.core.config import EndpointConfig, WorkerKind
from emulator.core.durations import duration_ms
from emulator.emulator import DEFAULT_ENDPOINT_ID
from emulator.errors import ConfigError
from emulator.workers.project import why_not_a_folder

VARIABLE_PREFIX = "EMULATOR_"
#: EMULATOR_WORKER_ENV_NAME=value gives worker processes NAME=value.
WORKER_ENV_PREFIX = "WORKER_ENV_"
DEFAULT_FILE = Path("emulator.toml")
#: `exec` gives it to its emulator and to the command: what proves that a handler comes from there.
CODE_TOKEN_VARIABLE = "EMULATOR_CODE_TOKEN"


def given_keys(keys: Iterable[str] | None) -> list[str]:
    """The API keys that pass.

    :raises ConfigError: one is empty: whoever gives a key wants to be asked for one.
    """
    variable = f"{VARIABLE_PREFIX}API_KEY"
    given = list(keys or ())
    if not given and os.environ.get(variable) is not None:
        raise ConfigError(f"{variable} is empty: give it a key, or unset it to let any key pass")
    if any(not key.strip() for key in given):
        raise ConfigError("an API key is empty: give it a value, or leave it out to let any key pass")
    return given


def check_exposure(host: str, *, asks_for_key: bool, insecure: bool) -> None:
    """Refuse to listen beyond this machine without a key, unless that is wanted.

    :raises ConfigError: see above.
    """
    if not (asks_for_key or insecure or is_loopback(host)):
        raise ConfigError(
            f"--host {host} is reached by other machines, which could read every job and run what they like:"
            " set a key (--api-key, EMULATOR_API_KEY), or say --insecure if all who reach the port may do so"
        )


def endpoints_of(
    handler: str | None,
    specs: Iterable[str],
    defaults: EndpointConfig,
    tables: Mapping[str, Any],
    folder: Path = Path(),
) -> dict[str, EndpointConfig]:
    """The endpoints for the `ID` and `ID=HANDLER` of the command line and the file's `[endpoints.ID]`.

    :param folder: where the tables' handlers start that have no working folder.
    :raises ConfigError: a table has an unknown key or a value of the wrong kind.
    """
    configs: dict[str, EndpointConfig] = {}
    for spec in specs:
        endpoint_id, _, own_handler = spec.partition("=")
        if endpoint_id in configs:
            raise ConfigError(f"endpoint {endpoint_id!r} is given twice")
        if own_handler:
            configs[endpoint_id] = _with_handler(defaults, own_handler)
            continue
        configs[endpoint_id] = replace(defaults, handler=handler)
    for endpoint_id, table in tables.items():
        base = configs.get(endpoint_id, replace(defaults, handler=handler))
        configs[endpoint_id] = _with_table(base, endpoint_id, table, folder)
    return configs or {DEFAULT_ENDPOINT_ID: replace(defaults, handler=handler)}


def as_options(message: str) -> str:
    """What is wrong with a setting, with its name as the command line has it."""
    for field, option, unit in (
        ("workers_min", "--workers-min", ""), ("workers_max", "--workers-max", ""),
        ("idle_timeout_s", "--idle-timeout", " s"), ("execution_timeout_ms", "--execution-timeout", " ms"),
        ("cold_start_ms", "--cold-start", " ms"), ("scaler_type", "--scaler-type", ""),
        ("scaler_value", "--scaler-value", ""), ("worker_kind", "--worker-kind", ""),
        ("rate_limit_scale", "--rate-limit-scale", ""),
    ):  # fmt: skip
        message = re.sub(rf"(?<![\w-]){field} is ([\d.]+)", rf"{option} is \g<1>{unit}", message)
        message = re.sub(rf"(?<![\w-]){field}(?!\w)", option, message)
        if unit:
            # The bounds that follow are in it, too.
            message = re.sub(rf"({option} is .*?) (\d+)$", rf"\1 \2{unit}", message)
    # Words that also mean what they mean.
    return re.sub(
        r"^(worker_address|num_cpus|num_gpus|shm_size|platform|network|memory|cpus|image) is ",
        lambda named: f"--{named[1].replace('_', '-')} is ",
        re.sub("^volumes: ", "--volume: ", message),
    )


def configured_keys() -> list[str]:
    """The keys that `serve` would let pass, as variables and emulator.toml have it.

    :raises ConfigError: the file cannot be read.
    """
    if keys := os.environ.get(f"{VARIABLE_PREFIX}API_KEY", "").split():
        return keys
    named = os.environ.get(f"{VARIABLE_PREFIX}CONFIG")
    path = Path(named) if named else DEFAULT_FILE
    try:
        given = tomllib.loads(path.read_text()).get("api-key", []) if path.is_file() else []
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return [given] if isinstance(given, str) else [str(key) for key in given]


def _whole_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("it must be a whole number")
    return value


def interpreter(python: str) -> str:
    """The full path of a Python; a bare name is looked up as a shell would.

    :raises ConfigError: there is none.
    """
    found = shutil.which(python)
    if found is None:
        raise ConfigError(f"python is {python!r}: there is no such interpreter")
    # Not resolved: a virtual environment's Python is a link.
    return str(Path(found).absolute())


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it must be true or false")
    return value


def _command(value: object) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else _texts(value)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("it must be a list of strings")
    return tuple(map(str, value))


def _amounts(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError("it must be a table of amounts")
    return {name: float(amount) for name, amount in value.items()}


def resources_of(given: Iterable[str]) -> dict[str, float]:
    """The custom resources that `NAME=AMOUNT` say.

    :raises ConfigError: one says none.
    """
    resources: dict[str, float] = {}
    for text in given:
        name, _, amount = text.partition("=")
        try:
            resources[name] = float(amount)
        except ValueError:
            raise ConfigError(f"--resource is {text!r}: it must be NAME=AMOUNT") from None
    return resources


def _variables(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or any(isinstance(item, dict | list) for item in value.values()):
        raise ValueError("it must be a table of variables")
    return {name: str(item) for name, item in value.items()}


#: The keys of `[endpoints.ID]`: which field each sets, and how its value is read.
_ENDPOINT_KEYS: dict[str, tuple[str, Any]] = {
    "handler": ("handler", str),
    "command": ("command", _command),
    "workdir": ("workdir", str),
    "workers-min": ("workers_min", _whole_number),
    "workers-max": ("workers_max", _whole_number),
    "idle-timeout": ("idle_timeout_s", lambda value: duration_ms(str(value), "s") / 1000),
    "execution-timeout": ("execution_timeout_ms", lambda value: duration_ms(str(value), "ms")),
    "scaler-type": ("scaler_type", str),
    "scaler-value": ("scaler_value", _whole_number),
    "missing-input": ("missing_input", str),
    "result-limit": ("result_limit_mib", _whole_number),
    "cold-start": ("cold_start_ms", lambda value: duration_ms(str(value), "ms")),
    "worker-kind": ("worker_kind", str),
    "flashboot": ("flashboot", _truth),
    "system-checks": ("system_checks", _truth),
    "image": ("image", str),
    "python": ("python", lambda value: interpreter(str(value))),
    "args": ("worker_args", _texts),
    "env": ("worker_env", _variables),
}


#: Those that say how containers are made.
_CONTAINER_KEYS: dict[str, tuple[str, Any]] = {
    "gpus": ("gpus", str),
    "memory": ("memory", str),
    "cpus": ("cpus", float),
    "volumes": ("volumes", _texts),
    "shm-size": ("shm_size", str),
    "platform": ("platform", str),
    "user": ("user", str),
    "network": ("network", str),
}
#: Those that say what workers take of a cluster's nodes.
_PLACEMENT_KEYS: dict[str, tuple[str, Any]] = {
    "num-cpus": ("num_cpus", float),
    "num-gpus": ("num_gpus", float),
    "resources": ("resources", _amounts),
}


def _with_handler(base: EndpointConfig, handler: str) -> EndpointConfig:
    """Settings with a handler in place of whatever else was to run."""
    if base.image is not None:
        base = replace(base, image=None, worker_kind=WorkerKind.PROCESS, command=())
    return replace(base, handler=handler, command=())


def _with_table(base: EndpointConfig, endpoint_id: str, table: object, folder: Path) -> EndpointConfig:
    place = f"[endpoints.{endpoint_id}]"
    if not isinstance(table, dict):
        raise ConfigError(f"{place} must be a table of settings")
    fields: dict[str, Any] = {}
    of_container: dict[str, Any] = {}
    of_placement: dict[str, Any] = {}
    known = {**_ENDPOINT_KEYS, **_CONTAINER_KEYS, **_PLACEMENT_KEYS}
    for key, value in table.items():
        name = key.replace("_", "-")
        if name not in known:
            raise ConfigError(f"{place} has an unknown key {key!r}{_did_you_mean(name, known)}")
        field, read = known[name]
        try:
            kept = of_container if name in _CONTAINER_KEYS else fields
            (of_placement if name in _PLACEMENT_KEYS else kept)[field] = read(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{place} {key} is {value!r}: {error}") from error
    if "image" in fields:
        # What was given for all endpoints is of those that have no image.
        of_others = {"handler": None, "command": (), "python": None, "worker_kind": WorkerKind.DOCKER}
        fields = {**of_others, **fields}
    elif base.image is not None and ("handler" in fields or fields.get("worker_kind", "docker") != "docker"):
        fields.setdefault("worker_kind", WorkerKind.PROCESS)
        fields |= {"image": None}
    if of_container:
        if fields.get("image", base.image) is None:
            raise ConfigError(f"{place} {next(iter(of_container))} is of containers: name their image")
        volumes = [_beside(folder, each) for each in of_container.get("volumes", base.container.volumes)]
        fields["container"] = replace(base.container, **{**of_container, "volumes": tuple(volumes)})
    if of_placement:
        if fields.get("worker_kind", base.worker_kind) != WorkerKind.RAY:
            raise ConfigError(
                f"{place} {next(iter(of_placement)).replace('_', '-')} is of workers on a cluster: its"
                " worker-kind must be ray"
            )
        fields["placement"] = replace(base.placement, **of_placement)
    if fields.get("handler") is not None:
        fields.setdefault("command", ())
        if fields.get("workdir", base.workdir) is None:
            fields["handler"] = from_folder(folder, fields["handler"])
    elif "command" in fields and "image" not in fields:
        fields["handler"] = None
    fields["worker_env"] = {**base.worker_env, **fields.get("worker_env", {})}
    return replace(base, **fields)


@dataclass(slots=True, frozen=True)
class ConfigFile:
    """The project's `emulator.toml`."""

    #: The options it sets, by their names with underscores.
    options: dict[str, Any]
    #: `[endpoints.ID]` tables.
    endpoints: dict[str, Any]
    #: Where its paths start.
    folder: Path


def read_config_file(path: Path | None, known: Iterable[str]) -> ConfigFile:
    """Read the file, or `emulator.toml` of this folder if there is one; `known` are the options' names.

    :raises ConfigError: it cannot be read, or has a key that sets nothing.
    """
    if path is None and not DEFAULT_FILE.is_file():
        return ConfigFile({}, {}, Path())
    path = path or DEFAULT_FILE
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    if isinstance(content.get("endpoint"), dict):
        raise ConfigError(f"{path} has a table [endpoint.…]: did you mean [endpoints.…]?")
    endpoints = content.pop("endpoints", {})
    if not isinstance(endpoints, dict):
        raise ConfigError(f"{path}: endpoints must be tables like [endpoints.my-endpoint]")
    options = {key.replace("-", "_"): value for key, value in content.items()}
    for table in (options, *(table for table in endpoints.values() if isinstance(table, dict))):
        if isinstance(workdir := table.get("workdir"), str):
            table["workdir"] = str((path.parent / workdir).absolute())
        if isinstance(python := table.get("python"), str) and "/" in python:
            table["python"] = str(path.parent / python)
    if isinstance(state := options.get("state"), str):
        options["state"] = str((path.parent / state).absolute())
    for name in options.keys() - set(known):
        hint = _did_you_mean(name.replace("_", "-"), [key.replace("_", "-") for key in known])
        raise ConfigError(f"{path} has an unknown key {name.replace('_', '-')!r}{hint}")
    if isinstance(command := options.get("command"), list):
        options["command"] = shlex.join(map(str, command))
    return ConfigFile(options, endpoints, path.parent)


def from_folder(folder: Path, handler: str) -> str:
    """A handler whose path starts in a folder. `module:function` is as it is."""
    place, colon, function = handler.partition(".py:")
    is_path = colon or handler.endswith(".py")
    return str(folder / place) + colon + function if is_path else handler


def _beside(folder: Path, volume: str) -> str:
    """A volume whose folder starts beside the file that names it."""
    return volume if volume.startswith(("/", "~")) else str(folder.absolute() / volume)


def work_in(folder: Path | None) -> None:
    """Run in this folder from now on, and have workers run there; None stays.

    :raises ConfigError: it is none.
    """
    if folder is None:
        return
    if problem := why_not_a_folder(folder):
        raise ConfigError(f"workdir is {str(folder)!r}: {problem}")
    os.chdir(folder)


def worker_env() -> dict[str, str]:
    """The variables for worker processes that EMULATOR_WORKER_ENV_ variables give."""
    prefix = VARIABLE_PREFIX + WORKER_ENV_PREFIX
    return {
        name.removeprefix(prefix): value
        for name, value in os.environ.items()
        if name.startswith(prefix) and name != prefix
    }


def unknown_variables(known: Iterable[str]) -> list[str]:
    """A sentence for each EMULATOR_ variable that sets nothing."""
    names = {name.removeprefix(VARIABLE_PREFIX) for name in known}
    given = sorted(
        name.removeprefix(VARIABLE_PREFIX) for name in os.environ if name.startswith(VARIABLE_PREFIX)
    )
    return [
        f"the variable {VARIABLE_PREFIX}{name} sets nothing{_did_you_mean(name, names, VARIABLE_PREFIX)}"
        for name in given
        if name not in names and not name.startswith(WORKER_ENV_PREFIX)
    ]


def _did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    # What all names begin with must not make unlike ones alike.
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f": did you mean {prefix}{close[0]}?" if close else ""
