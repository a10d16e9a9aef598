"""Requests a second and the slowest of them: /runsync with an echo handler, /status of a finished job.

Each server once quiet and once as it logs when nobody asks for anything else: into a pipe that is read, and
ours into a file too.

The servers take turns within each round, so that a slow moment of the machine hits them alike; a
figure is the median of the rounds.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from http.client import HTTPConnection
from statistics import median
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple

import psutil  # type: ignore[import-untyped]

from benchmarks import load
from benchmarks.figure import Figure, NotMeasured, Target
from benchmarks.load import Load, Throughput
from benchmarks.report import say
from benchmarks.servers import (
    ASYNC_ECHO_HANDLER,
    BARE,
    DEV_SERVER,
    DEV_SERVER_ASYNC,
    DEV_SERVER_LOGGING,
    HOST,
    Server,
    ours,
)
from benchmarks.waiters import cpu_s

if TYPE_CHECKING:
    from benchmarks.report import Report
    from benchmarks.scale import Scale
    from benchmarks.servers import ServerKind

RUNSYNC_1, RUNSYNC_16, RUNSYNC_64, STATUS_16 = (
    "runsync, 1 connection",
    "runsync, 16 connections",
    "runsync, 64 connections",
    "status, 16 connections",
)
OURS = ours()
OURS_LOGGING = ours(name="ours, default log", quiet=False)
OURS_LOGGING_TO_FILE = ours(name="ours, default log to a file", quiet=False, log_to_file=True)
OURS_ASYNC = ours(name="ours, async handler", handler=ASYNC_ECHO_HANDLER)
_CONNECTIONS = {RUNSYNC_1: 1, RUNSYNC_16: 16, RUNSYNC_64: 64, STATUS_16: 16}
#: The SDK's dev server runs the job when its status is asked for and forgets it then: nothing to compare.
_SERVERS = {
    RUNSYNC_16: (
        *(BARE, DEV_SERVER, DEV_SERVER_LOGGING, DEV_SERVER_ASYNC),
        *(OURS, OURS_LOGGING, OURS_LOGGING_TO_FILE, OURS_ASYNC),
    ),
    STATUS_16: (BARE, OURS),
    RUNSYNC_64: (BARE, DEV_SERVER, OURS),
    RUNSYNC_1: (DEV_SERVER, OURS),
}
_FINISHED_WITHIN_S = 5.0
#: Above this share of a core, the generator measures itself.
_GENERATOR_CPU_MAX = 0.95


class Sample(NamedTuple):
    """What came of one load, and the CPU time that an answer took the server, µs: on a busy machine that
    can be compared, and little else.
    """

    load: Throughput
    cpu_us: float


Samples = dict[tuple[str, str], list[Sample]]


def measure(report: Report, scale: Scale) -> None:
    """Put the bare app, the SDK's dev server and ours under the same loads, with and without a log.

    :raises NotMeasured: a server does not end.
    """
    with ExitStack() as running:
        servers = _started(running, report)
        samples = _take_turns(servers, report, scale)
        report.add("throughput", *_figures(samples))
    if any(sample.load.generator_cpu > _GENERATOR_CPU_MAX for taken in samples.values() for sample in taken):
        report.add_gap("throughput", NotMeasured("the load generator had no time left: figures are too low"))


def _started(running: ExitStack, report: Report) -> list[Server]:
    servers = []
    for kind in _SERVERS[RUNSYNC_16]:
        server = running.enter_context(Server(kind))
        try:
            server.wait_until_ready()
        except NotMeasured as reason:
            report.add_gap("throughput", reason)
        else:
            servers.append(server)
    return servers


def _take_turns(servers: list[Server], report: Report, scale: Scale) -> Samples:
    """Each load on each server, round after round; one that fails is left out from then on."""
    samples: Samples = {}
    for number in range(scale.rounds):
        for name, kinds in _SERVERS.items():
            say(f"throughput: round {number + 1} of {scale.rounds}: {name}")
            for server in list(servers):
                if server.kind not in kinds:
                    continue
                process = psutil.Process(server.pid)
                before_s = cpu_s(process)
                try:
                    sample = load.run(_load(name, server, scale))
                except NotMeasured as reason:
                    report.add_gap("throughput", NotMeasured(f"{server.kind.name}: {reason}"))
                    servers.remove(server)
                else:
                    answered = sample.requests_per_s * (scale.warm_up_s + scale.load_s)
                    spent_us = (cpu_s(process) - before_s) / answered * 1e6
                    samples.setdefault((name, server.kind.name), []).append(Sample(sample, spent_us))
        # Nobody always comes after the same other.
        servers.reverse()
    return samples


def _load(name: str, server: Server, scale: Scale) -> Load:
    kind = server.kind
    return Load(
        port=server.port,
        method="GET" if name == STATUS_16 else "POST",
        path=_finished_job(server) if name == STATUS_16 else f"{kind.base_path}/runsync",
        headers=kind.headers,
        connections=_CONNECTIONS[name],
        warm_up_s=scale.warm_up_s,
        duration_s=scale.load_s,
    )


def _finished_job(server: Server) -> str:
    """The path at which a new job's result can be read, once it is there."""
    base_path, headers = server.kind.base_path, dict(server.kind.headers)
    connection = HTTPConnection(HOST, server.port, timeout=_FINISHED_WITHIN_S)
    try:
        connection.request("POST", f"{base_path}/run", '{"input":{"prompt":"a lighthouse at dusk"}}', headers)
        path = f"{base_path}/status/{json.load(connection.getresponse())['id']}"
        deadline = monotonic() + _FINISHED_WITHIN_S
        while monotonic() < deadline:
            connection.request("GET", path, headers=headers)
            if json.load(connection.getresponse())["status"] == "COMPLETED":
                return path
            sleep(0.01)
    except (OSError, ValueError, KeyError) as error:
        raise NotMeasured(f"no finished job to read: {error!r}") from error
    finally:
        connection.close()
    raise NotMeasured(f"the job at {path} was not COMPLETED within {_FINISHED_WITHIN_S:g} s")


def _figures(samples: Samples) -> list[Figure]:
    figures: list[Figure] = []
    for (name, server), taken in samples.items():
        if name not in (RUNSYNC_16, STATUS_16):
            continue
        figures.append(Figure(name=f"{name}: {server}", value=_rate(taken), unit="req/s"))
        spent_us = median(sample.cpu_us for sample in taken)
        figures.append(Figure(name=f"{name}: {server}, CPU of one", value=spent_us, unit="µs"))
    for own, yardstick, bound in (
        (OURS, DEV_SERVER, 2.0),
        (OURS, BARE, 0.45),
        (OURS_ASYNC, DEV_SERVER_ASYNC, 2.5),
        (OURS_ASYNC, BARE, 0.55),
        (OURS_LOGGING, OURS, 0.85),
        (OURS_LOGGING_TO_FILE, OURS, 0.85),
        (OURS_LOGGING, DEV_SERVER_LOGGING, 1.6),
    ):
        figures += _ratio(samples, RUNSYNC_16, own, yardstick, Target.at_least(bound))
    figures += _ratio(samples, STATUS_16, OURS, BARE, Target.at_least(0.6))
    own, other = (samples.get((RUNSYNC_1, kind.name)) for kind in (OURS, DEV_SERVER))
    if own and other:
        value, target = _p50(own) / _p50(other), Target.at_most(0.8)
        name = f"{RUNSYNC_1}: p50, ours / {DEV_SERVER.name}"
        figures.append(Figure(name=name, value=value, unit="x", target=target))
    slowest = {server: _p99(taken) for (name, server), taken in samples.items() if name == RUNSYNC_64}
    for server, p99_ms in slowest.items():
        target = None
        if server == OURS.name and DEV_SERVER.name in slowest:
            target = Target.at_most(slowest[DEV_SERVER.name])
        figures.append(Figure(name=f"{RUNSYNC_64}: {server}, p99", value=p99_ms, unit="ms", target=target))
    return figures


def _ratio(
    samples: Samples, name: str, own: ServerKind, yardstick: ServerKind, target: Target
) -> list[Figure]:
    taken, others = samples.get((name, own.name)), samples.get((name, yardstick.name))
    if not taken or not others:
        return []
    # Of each round by itself: what the machine does besides changes from one to the next.
    value = median(
        one.load.requests_per_s / other.load.requests_per_s for one, other in zip(taken, others, strict=False)
    )
    return [Figure(name=f"{name}: {own.name} / {yardstick.name}", value=value, unit="x", target=target)]


def _p50(taken: list[Sample]) -> float:
    return median(sample.load.p50_ms for sample in taken)


def _rate(taken: list[Sample]) -> float:
    return median(sample.load.requests_per_s for sample in taken)


def _p99(taken: list[Sample]) -> float:
    return median(sample.load.p99_ms for sample in taken)
