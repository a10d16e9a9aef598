"""What each kind of worker costs a job, beside the SDK's dev server; and what workers cost that only wait."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from http.client import HTTPConnection
from statistics import median
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import uvloop

from benchmarks import load
from benchmarks.figure import Figure, NotMeasured, Target
from benchmarks.load import Load
from benchmarks.report import say
from benchmarks.servers import DEV_SERVER, ECHO_HANDLER, HOST, Server, ours
from benchmarks.waiters import Waiter, cpu_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Report
    from benchmarks.scale import Scale

_WORKERS = 4
_ALWAYS_UP = ("--workers-min", str(_WORKERS), "--workers-max", str(_WORKERS))
_IDLE_WORKERS = 100
_SETTLE_S = 1.0
_FIRST_JOB_WITHIN_S = 60.0
INLINE = ours(*_ALWAYS_UP, name="inline")
FUNCTION = ours(
    *_ALWAYS_UP, worker_kind="process", handler=f"{ECHO_HANDLER}:handler", name="process, bare function"
)
SCRIPT = ours("--workers-min", "1", "--workers-max", "1", worker_kind="process", name="process, SDK script")
EXTERNAL = ours(worker_kind="external", name="external, SDK script")


def measure(report: Report, scale: Scale) -> None:
    """Put the kinds of workers under the same load, then let a hundred wait.

    :raises NotMeasured: a server does not come up or does not end.
    """
    jobs_per_s: dict[str, float] = {}
    for kind in (DEV_SERVER, INLINE, FUNCTION):
        say(f"workers: {kind.name}")
        with Server(kind) as server:
            server.wait_until_ready()
            runsync(server)
            at_once, alone = (load.run(_load(server, scale, connections)) for connections in (16, 1))
        jobs_per_s[kind.name] = at_once.requests_per_s
        report.add(
            "workers",
            Figure(name=f"echo, 16 connections: {kind.name}", value=at_once.requests_per_s, unit="jobs/s"),
            Figure(name=f"one job at a time: {kind.name}, p50", value=alone.p50_ms, unit="ms"),
            Figure(name=f"one job at a time: {kind.name}, p99", value=alone.p99_ms, unit="ms"),
        )
    ratio = jobs_per_s[FUNCTION.name] / jobs_per_s[INLINE.name]
    name = f"echo, 16 connections: {FUNCTION.name} / {INLINE.name}"
    report.add("workers", Figure(name=name, value=ratio, unit="x", target=Target.at_least(0.5)))
    for kind in (SCRIPT, EXTERNAL):
        say(f"workers: {kind.name}")
        with Server(kind) as server:
            server.wait_until_ready()
            with _sdk_worker(server) if kind is EXTERNAL else _nothing():
                report.add("workers", *_sdk_figures(server, scale))
    say(f"workers: {_IDLE_WORKERS} that wait")
    with Server(EXTERNAL) as server:
        server.wait_until_ready()
        report.add("workers", *uvloop.run(_watch_idle(server, scale)))


def _load(server: Server, scale: Scale, connections: int) -> Load:
    return Load(
        port=server.port,
        method="POST",
        path=f"{server.kind.base_path}/runsync",
        headers=server.kind.headers,
        connections=connections,
        warm_up_s=scale.warm_up_s,
        duration_s=scale.load_s,
    )


def runsync(server: Server) -> dict[str, Any]:
    """One job; the first waits for its worker's start."""
    connection = HTTPConnection(HOST, server.port, timeout=_FIRST_JOB_WITHIN_S)
    try:
        headers = {**server.kind.headers, "Content-Type": "application/json"}
        connection.request("POST", f"{server.kind.base_path}/runsync", '{"input":{"n":1}}', headers)
        body: dict[str, Any] = json.load(connection.getresponse())
    except (OSError, ValueError) as error:
        raise NotMeasured(f"{server.kind.name}: no answer to the first job: {error!r}") from error
    finally:
        connection.close()
    if "output" not in body:
        raise NotMeasured(f"{server.kind.name}: {body}")
    return body


def _sdk_figures(server: Server, scale: Scale) -> list[Figure]:
    """One SDK worker, one job after the other: its loop sleeps a second between jobs (wire.md 7)."""
    first = runsync(server)
    began, bodies, took_ms = perf_counter(), [], []
    for _ in range(scale.sdk_jobs):
        sent = perf_counter()
        bodies.append(runsync(server))
        took_ms.append((perf_counter() - sent) * 1000)
    rate = scale.sdk_jobs / (perf_counter() - began)
    waited_ms = [body["delayTime"] for body in bodies]
    held_ms = [body["executionTime"] for body in bodies]
    rest_ms = [took - waited - held for took, waited, held in zip(took_ms, waited_ms, held_ms, strict=True)]
    name = server.kind.name
    return [
        Figure(name=f"{name}: first job, from a cold start", value=first["delayTime"], unit="ms"),
        Figure(name=f"{name}: one worker", value=rate, unit="jobs/s"),
        Figure(name=f"{name}: a job, p50", value=median(took_ms), unit="ms"),
        Figure(name=f"{name}: of it until the SDK asks again", value=median(waited_ms), unit="ms"),
        Figure(name=f"{name}: of it in the SDK's loop, around the handler", value=median(held_ms), unit="ms"),
        Figure(
            name=f"{name}: of it the emulator's", value=median(rest_ms), unit="ms"
        ),
    ]  # fmt: skip


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _sdk_worker(server: Server) -> Iterator[None]:
    """The echo script as a worker that nobody at the emulator has started."""
    base, query = f"http://{HOST}:{server.port}{server.kind.base_path}", "?gpu=none"
    variables = {
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID{query}",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID{query}",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID{query}",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID{query}",
        "RUNPOD_AI_API_KEY": "bench",
        "RUNPOD_ENDPOINT_ID": "bench",
        "RUNPOD_POD_ID": "elsewhere",
        "RUNPOD_LOG_LEVEL": "ERROR",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    with subprocess.Popen(
        [sys.executable, "-u", ECHO_HANDLER],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as worker:
        try:
            yield
        finally:
            # The SDK sends its heartbeats from a second process.
            os.killpg(worker.pid, signal.SIGKILL)


async def _watch_idle(server: Server, scale: Scale) -> list[Figure]:
    """A hundred workers with both their polls open, and nothing to do."""
    loop = asyncio.get_running_loop()
    process = psutil.Process(server.pid)
    polls = []
    for call in ("job-take", "job-stop"):
        for number in range(_IDLE_WORKERS):
            path = f"{server.kind.base_path}/{call}/worker-{number}?gpu=none&job_in_progress=0"
            poll = Waiter(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: bench\r\n\r\n".encode())
            polls.append(poll)
            await loop.create_connection(lambda poll=poll: poll, HOST, server.port)  # type: ignore[misc]
        await asyncio.sleep(_SETTLE_S)
    before_s, began = cpu_s(process), monotonic()
    await asyncio.sleep(scale.idle_s)
    spent_s, watched_s = cpu_s(process) - before_s, monotonic() - began
    if early := [poll.heard or poll.hung_up for poll in polls if poll.heard or poll.hung_up]:
        raise NotMeasured(f"{len(early)} polls were not held, such as {early[0]!r}")
    name = f"CPU while {_IDLE_WORKERS} external workers wait"
    return [Figure(name=name, value=spent_s / watched_s * 100, unit="%", target=Target.at_most(1))]
