"""`doctor`: what may keep the emulator from working on this machine, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from emulator.cli.asking import EXIT_USAGE, address, fail
from emulator.settings import VARIABLE_PREFIX
from emulator.version import __version__

_DEFAULT_PORT = 8000
#: Real seconds for Docker to say whether its daemon runs.
_DOCKER_PATIENCE_S = 10
_PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    #: Whether it is as it should be; None when that is not needed for everything.
    fine: bool | None
    told: str
    #: What to do about it.
    advice: str = ""


def doctor(
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            envvar=f"{VARIABLE_PREFIX}PORT",
            metavar="N",
            help=f"The port to look at (default: that of {VARIABLE_PREFIX}URL, or 8000).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Look for what may keep it from working here.

    Looks at Python, the SDK, the port, proxies and Docker. Exits with 1 if it cannot run.
    """
    if port is not None and not 0 < port < 65_536:
        fail(f"--port is {port}: it must be from 1 to 65535", EXIT_USAGE)
    port = (
        port
        or _port_of(address(None if not (url := os.environ.get(f"{VARIABLE_PREFIX}URL")) else url))
        or _DEFAULT_PORT
    )
    findings = [_python(), _sdk(), *_port(port), _base_url(port), _proxy(), _docker()]
    if as_json:
        typer.echo(json.dumps({"version": __version__, "findings": [asdict(each) for each in findings]}))
    else:
        for each in findings:
            mark = {True: "ok  ", None: "note", False: "BAD "}[each.fine]
            typer.echo(f"{mark}  {each.name:<8}  {each.told}")
            if each.advice and each.fine is not True:
                typer.echo(f"                → {each.advice}")
    raise typer.Exit(int(any(each.fine is False for each in findings)))


def _port_of(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def _python() -> Finding:
    return Finding(
        "python", True, f"{platform.python_version()} at {sys.executable}, runpod-emulator {__version__}"
    )


def _sdk() -> Finding:
    try:
        return Finding("sdk", True, f"runpod {importlib.metadata.version('runpod')}")
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "sdk",
            None,
            "runpod is not installed here: scripts that import it cannot run with this Python",
            f"{sys.executable} -m pip install runpod, or name another Python with --python",
        )


def _port(port: int) -> list[Finding]:
    from emulator.client import EmulatorClient
    from emulator.errors import EmulatorError

    url = f"http://127.0.0.1:{port}"
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return [Finding("port", True, f"{port} is free: no emulator serves there")]
    try:
        with EmulatorClient(url) as emulator:
            served = emulator.control("GET", "/endpoints")["endpoints"]
    except EmulatorError:
        return [
            Finding(
                "port",
                False,
                f"{port} is used by something else",
                "stop it, or serve on another port (--port)",
            )
        ]
    names = ", ".join(each["id"] for each in served)
    return [Finding("port", True, f"an emulator serves at {url}: {names}"), _workers(served)]


def _workers(endpoints: list[dict[str, Any]]) -> Finding:
    """Whether workers start, as far as the emulator has tried."""
    if obstacles := [each["obstacle"] for each in endpoints if each["obstacle"]]:
        return Finding("workers", False, "; ".join(obstacles))
    up = sum(each["health"]["workers"][state] for each in endpoints for state in ("idle", "running"))
    return Finding("workers", True, f"{up} up; they are started when a job comes")


def _base_url(port: int) -> Finding:
    given = os.environ.get("RUNPOD_ENDPOINT_BASE_URL")
    advice = f"export RUNPOD_ENDPOINT_BASE_URL=http://127.0.0.1:{port}/v2"
    if given is None:
        return Finding("base url", None, "not set here: the Python SDK would call production", advice)
    if "runpod.ai" in given:
        return Finding("base url", None, f"{given} is production", advice)
    return Finding("base url", True, given)


def _proxy() -> Finding:
    proxies = {name for name in _PROXY_VARIABLES if os.environ.get(name)}
    spared = os.environ.get("NO_PROXY", os.environ.get("no_proxy", ""))
    if proxies and not any(name in spared for name in ("127.0.0.1", "localhost", "*")):
        return Finding(
            "proxy",
            None,
            f"{', '.join(sorted(proxies))} may send calls of 127.0.0.1 to a proxy",
            "export NO_PROXY=127.0.0.1,localhost",
        )
    return Finding("proxy", True, "nothing stands between clients and 127.0.0.1")


def _docker() -> Finding:
    found = shutil.which("docker")
    if found is None:
        return Finding("docker", None, "not found; it is needed for worker containers alone")
    try:
        asked = subprocess.run(
            [found, "version", "--format", "{{.Server.Version}}"],
            capture_output=True, text=True, timeout=_DOCKER_PATIENCE_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return Finding("docker", None, f"{found} does not answer")
    if asked.returncode != 0:
        return Finding("docker", None, f"{found} is there, but no daemon answers it", "start Docker")
    return Finding("docker", True, f"{found}, daemon {asked.stdout.strip()}")
