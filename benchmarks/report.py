"""What a run found: a table for people, JSON for whatever keeps track of it."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.figure import Figure, NotMeasured


#: Above this share of the machine, what else runs on it shows in the figures.
_BUSY_PERCENT = 5.0


class Report:
    """The figures of one run, by benchmark, and what could not be measured."""

    def __init__(self) -> None:
        #: How busy the machine is with other things, over a second before the run.
        self._busy_percent: float = psutil.cpu_percent(interval=1)
        self._figures: dict[str, list[Figure]] = {}
        self._gaps: dict[str, list[str]] = {}
        self._left_out: dict[str, list[str]] = {}

    @property
    def complete(self) -> bool:
        """Whether everything could be measured."""
        return not self._gaps

    def add(self, benchmark: str, *figures: Figure) -> None:
        """Keep the figures of a benchmark."""
        self._figures.setdefault(benchmark, []).extend(figures)

    def add_gap(self, benchmark: str, reason: NotMeasured) -> None:
        """Keep that some of a benchmark could not be measured, and why."""
        self._gaps.setdefault(benchmark, []).append(str(reason))

    def leave_out(self, benchmark: str, reason: str) -> None:
        """Keep that some of a benchmark asks for what this machine does not have: the run is complete."""
        self._left_out.setdefault(benchmark, []).append(reason)

    def table(self) -> str:
        """The figures as text, a block for each benchmark."""
        width = max((len(figure.name) for figures in self._figures.values() for figure in figures), default=0)
        lines: list[str] = []
        if self._busy_percent > _BUSY_PERCENT:
            lines += [
                "",
                f"The machine was {self._busy_percent:.0f} % busy already: do not compare these figures.",
            ]
        for benchmark in dict.fromkeys([*self._figures, *self._left_out, *self._gaps]):
            lines += ["", benchmark]
            lines += [_row(figure, width) for figure in self._figures.get(benchmark, [])]
            lines += [f"  left out: {reason}" for reason in self._left_out.get(benchmark, [])]
            lines += [f"  NOT MEASURED: {reason}" for reason in self._gaps.get(benchmark, [])]
        return "\n".join(lines)

    def write_json(self, file: Path) -> None:
        """Write everything, with the kind of machine it was measured on."""
        report = {
            "machine": {
                "python": platform.python_version(),
                "system": f"{platform.system()} {platform.machine()}",
                "cores": os.cpu_count(),
                "busyPercent": self._busy_percent,
            },
            "figures": {
                benchmark: [_fields(figure) for figure in figures]
                for benchmark, figures in self._figures.items()
            },
            "leftOut": self._left_out,
            "notMeasured": self._gaps,
        }
        file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def say(progress: str) -> None:
    """Tell whoever watches what is being measured now."""
    print(f"… {progress}", file=sys.stderr, flush=True)


def _row(figure: Figure, width: int) -> str:
    target = "" if figure.target is None else f"{figure.target.relation} {_number(figure.target.bound)}"
    value = f"{_number(figure.value):>9} {figure.unit:<5}"
    return f"  {figure.name:<{width}}  {value}  {target:>8}  {figure.verdict}".rstrip()


def _number(value: float) -> str:
    if value >= 1000 or value == int(value):
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if value < 1 else f"{value:.2f}"


def _fields(figure: Figure) -> dict[str, Any]:
    return {key: value for key, value in asdict(figure).items() if value is not None} | (
        {"verdict": figure.verdict} if figure.verdict else {}
    )
