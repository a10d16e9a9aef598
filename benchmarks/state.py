"""What it costs to keep the state in a file: requests a second with and without, starts, and the file's size.

The servers with and without take turns, so that a slow moment of the machine hits them alike.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median

from benchmarks import load
from benchmarks.figure import Figure, Target
from benchmarks.load import Load
from benchmarks.report import Report, say
from benchmarks.scale import Scale
from benchmarks.servers import Server, ours
from emulator.ledger.database import Batch, Database
from emulator.ledger.records import JobRecord, RequestRecord

_SYNCS = ("normal", "full", "off")
_CONNECTIONS = 16
_BODY = b'{"input":{"prompt":"a lighthouse at dusk, oil on canvas, wide shot","number":%d}}'
_AT_ONCE = 1_000
#: Of jobs that go through the file, so many are in it at a time.
_KEPT = 10_000


def measure(report: Report, scale: Scale) -> None:
    """Put servers that keep their state, and one that does not, under the same load; then fill files."""
    with tempfile.TemporaryDirectory() as folder:
        _measure_throughput(report, scale, Path(folder))
        for jobs in (1_000, scale.kept_queue):
            _measure_start(report, Path(folder, f"start-{jobs}.db"), jobs)
        _measure_size(report, Path(folder, "size.db"), scale.deep_queue)


def _measure_throughput(report: Report, scale: Scale, folder: Path) -> None:
    rates: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as running:
        servers = {"no file": running.enter_context(Server(ours()))}
        for sync in _SYNCS:
            options = ("--state", str(folder / f"{sync}.db"), "--state-sync", sync)
            servers[sync] = running.enter_context(Server(ours(*options)))
        for server in servers.values():
            server.wait_until_ready()
        for number in range(scale.rounds):
            say(f"state: round {number + 1} of {scale.rounds}")
            for operation in ("run", "runsync"):
                for name, server in servers.items():
                    sample = load.run(
                        Load(
                            port=server.port,
                            method="POST",
                            path=f"{server.kind.base_path}/{operation}",
                            headers=server.kind.headers,
                            connections=_CONNECTIONS,
                            warm_up_s=scale.warm_up_s,
                            duration_s=scale.load_s,
                        )
                    )
                    rates.setdefault((operation, name), []).append(sample.requests_per_s)
    for operation in ("run", "runsync"):
        without = median(rates[operation, "no file"])
        report.add("state", Figure(name=f"{operation}, no file", value=without, unit="req/s"))
        for sync in _SYNCS:
            target = Target.at_least(0.6) if sync == "normal" else None
            value = median(rates[operation, sync]) / without
            figure = Figure(name=f"{operation}, {sync} / no file", value=value, unit="x", target=target)
            report.add("state", figure)


def _measure_start(report: Report, path: Path, jobs: int) -> None:
    """How much longer a start takes with so many queued jobs in the file."""
    say(f"state: a start with {jobs} queued jobs")
    with closing(Database(path, "off")) as database:
        for start in range(0, jobs, _AT_ONCE):
            database.write(_batch(start, min(_AT_ONCE, jobs - start), "IN_QUEUE"))
    took = []
    for options in ((), ("--state", str(path))):
        kind = ours("--workers-max", "0", *options)
        with Server(kind) as server:
            took.append(server.wait_until_ready())
    report.add(
        "state",
        Figure(
            name=f"start with {jobs} queued jobs, beyond one without a file",
            value=took[1] - took[0],
            unit="s",
            target=Target.at_most(2.0),
        ),
    )


def _measure_size(report: Report, path: Path, jobs: int) -> None:
    """How large the file is after so many jobs have gone through it."""
    say(f"state: {jobs} jobs through a file")
    largest = 0
    with closing(Database(path, "off")) as database:
        for start in range(0, jobs, _AT_ONCE):
            database.write(_batch(start, _AT_ONCE, "COMPLETED"))
            if start >= _KEPT:
                old = start - _KEPT
                database.write(Batch(gone_jobs=range(old + 1, old + 1 + _AT_ONCE)))
            largest = max(largest, path.stat().st_size)
        database.write(Batch(gone_jobs=range(max(0, jobs - 2 * _KEPT), jobs + 1)))
    mib = 1024 * 1024
    at = f"{jobs:,} jobs, {_KEPT:,} at a time".replace(",", " ")
    report.add("state", Figure(name=f"largest file: {at}", value=largest / mib, unit="MiB"))
    report.add("state", Figure(name="the file after them", value=path.stat().st_size / mib, unit="MiB"))


def _batch(start: int, count: int, status: str) -> Batch:
    numbers = range(start + 1, start + 1 + count)
    far_ms = 4_000_000_000_000
    return Batch(
        requests=[
            RequestRecord(
                number, "bench", f"job-{number}", _BODY % number, None, False, False, None, far_ms, 600_000,
                86_400_000, False,
            )
            for number in numbers
        ],
        jobs=[
            JobRecord(number, status, far_ms, None, far_ms, None, None, None, False, 0, b"1", None, number)
            for number in numbers
        ],
    )  # fmt: skip
