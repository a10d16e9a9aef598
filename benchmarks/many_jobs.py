"""How long others wait while very many jobs are queued: for a status, and while all of them go.

The jobs are put into the queue in the process that serves them: over HTTP that would take minutes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from time import perf_counter
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.figure import Figure, NotMeasured, Target
from benchmarks.report import say
from benchmarks.servers import HOST, ROOT
from emulator import Emulator, EndpointConfig
from emulator.cli.garbage import Garbage
from emulator.core.config import WorkerKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Report
    from benchmarks.scale import Scale

_KEY = {"Authorization": "Bearer bench"}
_BODY = b'{"input":{"prompt":"a lighthouse at dusk, oil on canvas, wide shot"}}'
#: Statuses asked for, while as many jobs come.
_ASKED = 4_000
_CLIENT_PATIENCE_S = 120.0


def measure(report: Report, scale: Scale) -> None:
    """Fill a queue, and ask for statuses while jobs come, while all are purged, and while all are forgotten.

    :raises NotMeasured: the server does not come up, or what it answers is not true.
    """
    jobs = scale.deep_queue
    at = f"{jobs:,} queued".replace(",", " ")
    say(f"many_jobs: {at}")
    with _server(jobs) as (port, job_id):
        # What the control API loads, it loads once.
        _ask(HTTPConnection(HOST, port, timeout=_CLIENT_PATIENCE_S), "GET", "/_emulator/jobs?limit=1")
        waited = _status_times(
            port, job_id, lambda client: [_ask(client, "POST", "/v2/bench/run", _BODY) for _ in range(_ASKED)]
        )
        report.add(
            "many_jobs",
            Figure(name=f"/status, {at}, p50", value=_rank(waited, 0.5), unit="ms"),
            Figure(
                name=f"/status, {at}, p99", value=_rank(waited, 0.99), unit="ms", target=Target.at_most(20)
            ),
            Figure(name=f"/status, {at}, longest", value=waited[-1], unit="ms"),
        )
        for what, path, read in (
            ("list of those that failed", "/_emulator/jobs?status=FAILED", lambda body: body["total"] == 0),
            ("purge", "/v2/bench/purge-queue", lambda body: body["removed"] == jobs + _ASKED),
            ("reset", "/_emulator/reset", lambda body: body["reset"]["bench"]["jobs"] == jobs + _ASKED),
        ):
            say(f"many_jobs: {what}")
            took: list[float] = []

            def act(
                client: HTTPConnection, path: str = path, took: list[float] = took, read: Any = read
            ) -> None:
                began = perf_counter()
                body = _ask(client, "GET" if "jobs?" in path else "POST", path)
                took.append(perf_counter() - began)
                if not read(body):
                    raise NotMeasured(f"{path}: not true: {body}")

            waited = _status_times(port, job_id, act)
            report.add(
                "many_jobs",
                Figure(name=f"{what}, {at}", value=took[0], unit="s"),
                Figure(
                    name=f"{what}, {at}: longest wait of others",
                    value=waited[-1],
                    unit="ms",
                    target=Target.at_most(50),
                ),
            )


def _status_times(port: int, job_id: str, meanwhile: Any) -> list[float]:
    """How long each /status took that was asked for while something was done, ms, ascending."""
    failures: list[BaseException] = []

    def do() -> None:
        client = HTTPConnection(HOST, port, timeout=_CLIENT_PATIENCE_S)
        try:
            meanwhile(client)
        except (OSError, ValueError, KeyError, NotMeasured) as error:
            failures.append(error)
        finally:
            client.close()

    thread = threading.Thread(target=do)
    thread.start()
    waited = []
    client = HTTPConnection(HOST, port, timeout=_CLIENT_PATIENCE_S)
    while thread.is_alive() or not waited:
        began = perf_counter()
        _ask(client, "GET", f"/v2/bench/status/{job_id}")
        waited.append((perf_counter() - began) * 1000)
    client.close()
    if failures:
        raise NotMeasured(f"many_jobs: {failures[0]!r}")
    return sorted(waited)


def _rank(ordered: list[float], share: float) -> float:
    return ordered[int(len(ordered) * share)]


def _ask(client: HTTPConnection, method: str, path: str, body: bytes | None = None) -> Any:
    client.request(method, path, body, _KEY)
    return json.loads(client.getresponse().read())


@contextmanager
def _server(jobs: int) -> Iterator[tuple[int, str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.many_jobs", str(jobs)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            if len(line) != 2:
                raise NotMeasured("the server with many jobs did not come up")
            yield int(line[0]), line[1]
        finally:
            process.kill()


async def _serve(jobs: int) -> None:
    """Serve an endpoint with so many jobs in its queue, as `serve` does, until stdin ends."""
    config = EndpointConfig(worker_kind=WorkerKind.EXTERNAL)
    async with (
        Emulator({"bench": config}, rate_limits=False) as emulator,
        emulator.serve() as url,
    ):
        Garbage(lambda: emulator.job_count)
        endpoint = emulator.endpoint("bench")
        fields = json.loads(_BODY)
        for number in range(jobs):
            job = endpoint.submit(fields)
            if number % 1_000 == 0:
                await asyncio.sleep(0)
        print(url.rpartition(":")[2], job.id, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
