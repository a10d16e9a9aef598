"""The command line: `python -m benchmarks [--json FILE] [--quick] [--only NAME …]`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from benchmarks import (
    console,
    fixtures,
    many_jobs,
    openai_streams,
    queue_depth,
    startup,
    state,
    throughput,
    waiters,
    worker_kinds,
    workers,
)
from benchmarks.figure import NotMeasured
from benchmarks.report import Report
from benchmarks.scale import FULL, QUICK

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.scale import Scale

BENCHMARKS: dict[str, Callable[[Report, Scale], None]] = {
    "throughput": throughput.measure,
    "startup": startup.measure,
    "queue_depth": queue_depth.measure,
    "many_jobs": many_jobs.measure,
    "state": state.measure,
    "waiters": waiters.measure,
    "workers": workers.measure,
    "worker_kinds": worker_kinds.measure,
    "fixtures": fixtures.measure,
    "openai_streams": openai_streams.measure,
    "console": console.measure,
}


def main() -> int:
    """Run the benchmarks; 1 when something could not be measured, whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    parser.add_argument("--quick", action="store_true", help="less than a minute, rougher figures")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", default=list(BENCHMARKS))
    options = parser.parse_args()
    # So that every `with` block that holds a server ends it.
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report()
    try:
        for name in options.only:
            try:
                BENCHMARKS[name](report, QUICK if options.quick else FULL)
            except NotMeasured as reason:
                report.add_gap(name, reason)
    except KeyboardInterrupt:
        print(report.table())
        return 130
    print(report.table())
    if options.json is not None:
        report.write_json(options.json)
    return 0 if report.complete else 1


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
