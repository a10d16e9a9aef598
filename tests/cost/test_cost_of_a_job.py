"""What a /runsync costs: a feature that every job pays for shows here on the day on which it comes.

The budgets are what it costs today, and one call more; with the default log four more, which wake the log's
thread: on a busy machine each job finds it asleep. Whoever needs more raises them in the same commit, and
says there what for; whoever saves something lowers them.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from emulator.cli.log_format import LogFormat, configure_logging
from emulator.cli.log_writer import LogWriter
from tests.cost.counting import Cost, cost_of_runsync

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET, DEFAULT = "warning", "info"


def echo(job: dict[str, Any]) -> object:
    return job["input"]


async def echo_on_the_loop(job: dict[str, Any]) -> object:
    return job["input"]


@contextmanager
def _log(level: str) -> Iterator[None]:
    """The log as `serve` writes it, to nobody."""
    loggers = [logging.getLogger(name) for name in ("emulator", "uvicorn")]
    before = [(each.handlers[:], each.propagate, each.level) for each in loggers]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    writer = LogWriter(nowhere)
    try:
        configure_logging(LogFormat.TEXT, level, writer)
        yield
    finally:
        for each, (handlers, propagate, old_level) in zip(loggers, before, strict=True):
            each.handlers[:] = handlers
            each.propagate = propagate
            each.setLevel(old_level)
        writer.flush()
        os.close(nowhere)


@pytest.mark.parametrize(
    ("handler", "level", "budget"),
    [
        (echo, QUIET, Cost(calls=286, rounds=8, timers=4, writes=2)),
        (echo, DEFAULT, Cost(calls=310, rounds=8, timers=4, writes=2)),
        (echo_on_the_loop, QUIET, Cost(calls=265, rounds=7, timers=4, writes=1)),
        (echo_on_the_loop, DEFAULT, Cost(calls=289, rounds=7, timers=4, writes=1)),
    ],
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else ""),
)
def test_a_runsync_costs_no_more_than_its_budget(handler, level, budget):
    with _log(level):
        cost, most_called = cost_of_runsync(handler)
    assert not cost.above(budget), f"{cost.above(budget)}; most called:\n{most_called}"
