"""How long one waits for the emulator: to import it, to start it, to stop it."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, NotMeasured, Target
from benchmarks.report import say
from benchmarks.servers import FASTAPI, ROOT, Server, ServerKind, ours

if TYPE_CHECKING:
    from benchmarks.report import Report
    from benchmarks.scale import Scale

_IMPORT_WITHIN_S = 30.0


def measure(report: Report, scale: Scale) -> None:
    """Import, start and stop the emulator several times, and a bare FastAPI app in between.

    :raises NotMeasured: an import fails, or a server does not start or stop.
    """
    for statement, target in (
        ("import emulator", Target.at_most(0.02)),
        ("from emulator import Emulator", Target.at_most(0.6)),
        ("import fastapi, uvicorn", None),
    ):
        say(f"startup: {statement}")
        taken_s = median(_import_s(statement) for _ in range(scale.starts))
        report.add("startup", Figure(name=statement, value=taken_s, unit="s", target=target))
    starts: dict[str, list[float]] = {}
    for number in range(scale.starts):
        say(f"startup: start and stop {number + 1} of {scale.starts}")
        for kind in (FASTAPI, ours()):
            for what, took_s in _start_and_stop(kind).items():
                starts.setdefault(f"{kind.name}: {what}", []).append(took_s)
    targets = {"ours: start to Ready.": Target.at_most(0.35), "ours: SIGTERM to end": Target.at_most(0.3)}
    report.add(
        "startup",
        *(
            Figure(name=name, value=median(taken_s), unit="s", target=targets.get(name))
            for name, taken_s in starts.items()
        ),
    )


def _import_s(statement: str) -> float:
    """Seconds an import takes in a fresh interpreter, without the interpreter's own start."""
    code = f"import time; began = time.perf_counter()\n{statement}\nprint(time.perf_counter() - began)"
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        timeout=_IMPORT_WITHIN_S,
        check=False,
        text=True,
    )
    if finished.returncode != 0:
        raise NotMeasured(f"{statement}: {finished.stderr.strip().splitlines()[-1]}")
    return float(finished.stdout)


def _start_and_stop(kind: ServerKind) -> dict[str, float]:
    with Server(kind) as server:
        took_s = {"start to first 200": server.wait_until_ready()}
        if kind.ready_line is not None:
            took_s["start to Ready."] = server.wait_for_ready_line()
        took_s["SIGTERM to end"] = server.stop()
    return took_s
