"""What the pytest fixtures cost: a session, a test, and moving time past a hundred thousand timers."""

from __future__ import annotations

import importlib.util
import statistics
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.figure import Figure
from benchmarks.report import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Report
    from benchmarks.scale import Scale
    from emulator.client import EmulatorClient

_ROUNDS = 15
_TESTS = 200
_TIMERS = 100_000
_DAY_MS = 86_400_000


def measure(report: Report, _scale: Scale) -> None:
    """Start and stop as the plugin does, beside moto's threaded server and pytest-httpserver."""
    from emulator import Emulator

    say("fixtures: start and stop")
    figures = [
        *_start_and_stop("emulator", lambda: Emulator().serve()),
        *_beside("moto", "moto's ThreadedMotoServer", _moto),
        *_beside("pytest_httpserver", "pytest-httpserver", _httpserver),
    ]
    say(f"fixtures: {_TESTS} endpoints")
    with Emulator().serve() as emulator:
        figures += _per_test(emulator)
    say(f"fixtures: {_TIMERS:,} timers".replace(",", " "))
    figures += _advance()
    report.add("fixtures", *figures)


def _start_and_stop(name: str, make: Callable[[], object]) -> list[Figure]:
    """Medians; the first round, which imports, is left out."""
    started, stopped = [], []
    for number in range(_ROUNDS + 1):
        context = make()
        began = perf_counter()
        context.__enter__()  # type: ignore[attr-defined]
        up = perf_counter()
        context.__exit__(None, None, None)  # type: ignore[attr-defined]
        if number:
            started.append(up - began)
            stopped.append(perf_counter() - up)
    return [
        Figure(name=f"{name}: session set-up", value=statistics.median(started) * 1000, unit="ms"),
        Figure(name=f"{name}: session tear-down", value=statistics.median(stopped) * 1000, unit="ms"),
    ]


def _beside(package: str, name: str, make: Callable[[], object]) -> list[Figure]:
    if importlib.util.find_spec(package) is None:
        say(f"fixtures: {name} is not installed: left out")
        return []
    return _start_and_stop(name, make)


def _moto() -> object:
    from moto.server import ThreadedMotoServer  # type: ignore[import-not-found,import-untyped]

    return _Started(ThreadedMotoServer(port=0, verbose=False))


def _httpserver() -> object:
    from pytest_httpserver import HTTPServer  # type: ignore[import-not-found]

    return _Started(HTTPServer(port=0))


class _Started:
    """A server with `start` and `stop` as a context manager."""

    def __init__(self, server: object) -> None:
        self._server = server

    def __enter__(self) -> None:
        self._server.start()  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        self._server.stop()  # type: ignore[attr-defined]


def _per_test(emulator: EmulatorClient) -> list[Figure]:
    made, gone, whole = [], [], []
    for _ in range(_TESTS):
        began = perf_counter()
        endpoint = emulator.create_endpoint(clock="frozen")
        ready = perf_counter()
        endpoint.when(input={"n": 1}).returns(2)
        assert endpoint.runsync({"n": 1})["output"] == 2
        done = perf_counter()
        endpoint.remove()
        made.append(ready - began)
        gone.append(perf_counter() - done)
        whole.append(perf_counter() - began)
    return [
        Figure(name="endpoint: set-up of a test", value=statistics.median(made) * 1000, unit="ms"),
        Figure(name="endpoint: tear-down of a test", value=statistics.median(gone) * 1000, unit="ms"),
        Figure(name="a whole test: endpoint, stub, job", value=statistics.median(whole) * 1000, unit="ms"),
    ]


def _advance() -> list[Figure]:
    from emulator import Emulator, EndpointConfig

    config = EndpointConfig(workers_max=0)
    with Emulator({"ep": config}, rate_limits=False, journal_entries=0).serve() as emulator:
        emulator.clock.freeze()
        endpoint = emulator.endpoint("ep")
        client = endpoint.client
        body = b'{"input":{"n":1},"policy":{"ttl":%d}}'
        for number in range(_TIMERS):
            client.post("run", content=body % (_DAY_MS - _TIMERS + number))
        began = perf_counter()
        emulator.clock.advance(_DAY_MS - _TIMERS - 1)
        before = perf_counter()
        emulator.clock.advance_to_next()
        one = perf_counter()
        emulator.clock.advance(_TIMERS)
        every = perf_counter()
    return [
        Figure(
            name="100 000 timers: advance by a day, nothing due", value=(before - began) * 1000, unit="ms"
        ),
        Figure(name="100 000 timers: advance to the next", value=(one - before) * 1000, unit="ms"),
        Figure(
            name="100 000 timers: each of them fired and settled",
            value=(every - one) / _TIMERS * 1e6,
            unit="µs",
        ),
    ]
