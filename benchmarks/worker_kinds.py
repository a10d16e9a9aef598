"""What a job costs through each kind of worker beside the same script as a process, and what a start takes.

A script runs in the emulator, in a process of this machine, in a container, and on a Ray cluster that is made
here; the last two where they can be had.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.util import find_spec
from statistics import median
from time import sleep
from typing import TYPE_CHECKING

from benchmarks import load
from benchmarks.figure import Figure, NotMeasured
from benchmarks.load import Load
from benchmarks.report import say
from benchmarks.servers import HOST, ROOT, Server, ServerKind, ours
from benchmarks.workers import runsync
from emulator.workers.containers.engine import Engine, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.report import Report
    from benchmarks.scale import Scale

#: With Python and the SDK in it; `make test-docker` builds it, and so does `docker build`.
IMAGE = "runpod-emulator-example-worker"
#: Scripts, each with its folder: one that needs no SDK and makes no pause, and a handler of the SDK's.
_PLAIN = ROOT / "benchmarks/plain_worker/worker.py"
_WITH_SDK = ROOT / "handlers/echo.py"
_ONE = ("--workers-max", "1")
_ALWAYS_UP = ("--workers-min", "1", *_ONE)
_GONE_AT_ONCE = ("--idle-timeout", "100ms", *_ONE)
_INLINE, _PROCESS = "inline", "process"
_COLD_STARTS = re.compile(rb'^runpod_cold_start_seconds_sum\{endpoint="bench"\} (\S+)$', re.MULTILINE)
_GONE_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A kind of worker, as a server that runs jobs by it, and as one that starts a worker for each job."""

    name: str
    up: ServerKind
    starting: ServerKind


def measure(report: Report, scale: Scale) -> None:
    """Send jobs through one worker of each kind, taking turns; then start workers of each, taking turns.

    :raises NotMeasured: a server does not come up, or a job comes to nothing.
    """
    places = [_inline(), _process()]
    for made, obstacle in ((_container(), _no_container()), (_on_ray(), _no_ray())):
        if obstacle:
            report.leave_out("worker_kinds", f"{made.name}: {obstacle}")
        else:
            places.append(made)
    report.add("worker_kinds", *_jobs(places, scale))
    report.add("worker_kinds", *_starts(places, scale))


# The kinds


def _inline() -> Place:
    # There no script takes jobs by itself: the handler alone.
    return Place(
        name=_INLINE, up=ours(*_ALWAYS_UP, name=_INLINE), starting=ours(*_GONE_AT_ONCE, name=_INLINE)
    )


def _process() -> Place:
    return _of_folder(_PROCESS, _PROCESS)


def _on_ray() -> Place:
    # Half a CPU: on a machine of two there is room for Ray's own.
    return _of_folder("ray", "ray", "--num-cpus", "0.5")


def _of_folder(name: str, worker_kind: str, *options: str) -> Place:
    """Workers that run in the script's folder, or in a copy of it."""
    return _running(
        name,
        lambda script: (
            *("--worker-kind", worker_kind, *options),
            *("--workdir", str(script.parent), "--command", f"python -u {script.name}"),
        ),
    )


def _container() -> Place:
    return _running(
        "docker",
        lambda script: (
            *("--image", IMAGE, "--volume", f"{script.parent}:/worker:ro"),
            *("--command", f"python -u /worker/{script.name}"),
        ),
    )


def _running(name: str, how: Callable[[Path], tuple[str, ...]]) -> Place:
    """The plain script in a worker that is up, and the SDK's in those that are started."""
    return Place(
        name=name,
        up=ours(*_ALWAYS_UP, *how(_PLAIN), handler=None, worker_kind=None, name=name),
        starting=ours(*_GONE_AT_ONCE, *how(_WITH_SDK), handler=None, worker_kind=None, name=name),
    )


def _no_container() -> str:
    """Why no worker can be a container here; empty when one can."""
    return asyncio.run(_ask_engine())


async def _ask_engine() -> str:
    engine = Engine()
    try:
        await engine.connect()
        if await engine.find_image(IMAGE) is None:
            return f"there is no image {IMAGE}: docker build -t {IMAGE} examples/worker"
    except EngineError as error:
        return str(error)
    finally:
        await engine.close()
    return ""


def _no_ray() -> str:
    """Why no worker can be on a cluster here; empty when one can."""
    return "" if find_spec("ray") else "Ray is not installed: python -m pip install -e '.[ray]'"


# What is measured


def _jobs(places: list[Place], scale: Scale) -> Iterator[Figure]:
    """A job at a time through a worker that is up."""
    with ExitStack() as running:
        servers = {}
        for place in places:
            say(f"worker_kinds: {place.name}, a worker that is up")
            servers[place.name] = server = running.enter_context(Server(place.up))
            server.wait_until_ready()
            runsync(server)
        p50s_ms: dict[str, list[float]] = {place.name: [] for place in places}
        for _ in range(scale.rounds):
            for name, server in servers.items():
                p50s_ms[name].append(load.run(_one_at_a_time(server, scale)).p50_ms)
    for name, of_rounds in p50s_ms.items():
        yield Figure(name=f"one job at a time: {name}, p50", value=median(of_rounds), unit="ms")
        if name != _PROCESS:
            # Of the same round, so that what else the machine does meanwhile is on both sides.
            ratios = [each / beside for each, beside in zip(of_rounds, p50s_ms[_PROCESS], strict=True)]
            yield Figure(name=f"{name} / {_PROCESS}", value=median(ratios), unit="x")


def _one_at_a_time(server: Server, scale: Scale) -> Load:
    return Load(
        port=server.port,
        method="POST",
        path=f"{server.kind.base_path}/runsync",
        headers=server.kind.headers,
        connections=1,
        warm_up_s=scale.warm_up_s,
        duration_s=scale.load_s,
    )


def _starts(places: list[Place], scale: Scale) -> Iterator[Figure]:
    """Jobs that each find no worker; the SDK's script, as its import is a part of any worker's start."""
    with ExitStack() as running:
        servers = {}
        for place in places:
            say(f"worker_kinds: {place.name}, starts")
            servers[place.name] = server = running.enter_context(Server(place.starting))
            server.wait_until_ready()
            # The first start of all reads files that no other has read; with Ray it may make the cluster.
            _start(server)
        took_s: dict[str, list[float]] = {place.name: [] for place in places}
        for _ in range(scale.starts):
            for name, server in servers.items():
                took_s[name].append(_start(server))
    for name, of_rounds in took_s.items():
        yield Figure(name=f"start of a worker: {name}, SDK script", value=median(of_rounds), unit="s")


def _start(server: Server) -> float:
    """Have a worker started by a job and see it go; returns the emulator's figure for its cold start, s."""
    before_s = _cold_starts_s(server)
    runsync(server)
    took_s = _cold_starts_s(server) - before_s
    for _ in range(int(_GONE_WITHIN_S / 0.05)):
        if b'"workers": []' in (said := _get(server, "/_emulator/workers")) or b'"workers":[]' in said:
            return took_s
        sleep(0.05)
    raise NotMeasured(f"{server.kind.name}: its worker does not go within {_GONE_WITHIN_S:g} s")


def _cold_starts_s(server: Server) -> float:
    """All cold starts so far, together."""
    found = _COLD_STARTS.search(_get(server, "/_emulator/metrics"))
    if found is None:
        raise NotMeasured(f"{server.kind.name}: its metrics do not tell of cold starts")
    return float(found[1])


def _get(server: Server, path: str) -> bytes:
    connection = HTTPConnection(HOST, server.port, timeout=_GONE_WITHIN_S)
    try:
        connection.request("GET", path, headers=dict(server.kind.headers))
        return connection.getresponse().read()
    except OSError as error:
        raise NotMeasured(f"{server.kind.name}: no answer to {path}: {error!r}") from error
    finally:
        connection.close()
