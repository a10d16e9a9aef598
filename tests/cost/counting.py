"""Counts what a job costs without a clock: Python calls, rounds of the loop, timers, writes.

However busy the machine is, the same code makes the same calls.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from emulator import Emulator
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

#: A worker that runs quick jobs takes several at a time after 64; caches are full long before that.
_WARM_UP = 100
_JOBS = 50
#: Each job begins on a loop that has nothing left to do of the one before.
_SETTLE_ROUNDS = 20
#: Their calls are not ours to save, and their versions differ.
_NOT_OURS = (f"{os.sep}asyncio{os.sep}", f"{os.sep}uvicorn{os.sep}", f"{os.sep}selectors.py", __file__)
#: It writes what has come since its last write: how much that is at a time is a matter of luck.
_LOG_THREAD = "log"
_BODY = b'{"input":{"prompt":"a lighthouse"}}'
_REQUEST = (
    b"POST /v2/ep/runsync HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer any\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


@dataclass(slots=True, frozen=True)
class Cost:
    """What a job costs."""

    #: Calls of Python functions, and each time that a coroutine goes on: our own and what these call of the
    #: standard library, on the emulator's loop and in the handler's thread.
    calls: int
    #: Rounds of the emulator's loop in which it does something.
    rounds: int
    #: Timers set, on the emulator's clock and on its loop.
    timers: int
    #: System calls that send: the answer, and what wakes the loop for another thread.
    writes: int

    def above(self, budget: Cost) -> str:
        """What of it is more than the budget has; empty when nothing is."""
        return ", ".join(
            f"{name}: {cost} where there are {allowed}"
            for name, cost in asdict(self).items()
            if cost > (allowed := getattr(budget, name))
        )


class Counts:
    """What is counted of one job, while `on`."""

    def __init__(self) -> None:
        self.on = False
        #: Whose calls are not the emulator's.
        self.client: socket.socket | None = None
        self._is_ours: dict[CodeType, bool] = {}
        self.begin()

    def begin(self) -> None:
        """Another job is to come."""
        self.calls: Counter[CodeType] = Counter()
        self.ours = self.rounds = self.loop_timers = self.writes = 0
        self.on = True

    def see(self, frame: FrameType, event: str, argument: Any) -> None:
        """A profiler of `sys.setprofile`."""
        if not self.on or threading.current_thread().name == _LOG_THREAD:
            return
        if event == "call":
            code = frame.f_code
            if code not in self._is_ours:
                self._is_ours[code] = not any(part in code.co_filename for part in _NOT_OURS)
            if self._is_ours[code]:
                self.calls[code] += 1
                self.ours += 1
        elif event == "c_call":
            owner = getattr(argument, "__self__", None)
            if isinstance(owner, socket.socket) and owner is not self.client:
                self.writes += argument.__name__ == "send"

    def cost(self) -> Cost:
        """What the job has cost."""
        timers = sum(count for code, count in self.calls.items() if code.co_qualname == "Timers.add")
        return Cost(self.ours, self.rounds, self.loop_timers + timers, self.writes)

    def most_called(self, count: int) -> str:
        """Where the calls go, for whoever has to find out what has come to them."""
        return "\n".join(
            f"{calls:4} {code.co_qualname} ({os.path.basename(code.co_filename)})"
            for code, calls in self.calls.most_common(count)
        )


class CountingLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, which counts the rounds in which something of ours is done."""

    counts: Counts

    def _run_once(self) -> None:
        before = self.counts.ours
        super()._run_once()
        self.counts.rounds += self.counts.ours != before

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        self.counts.loop_timers += self.counts.on
        return super().call_at(when, callback, *args, context=context)


def cost_of_runsync(handler: Callable[[dict[str, Any]], object]) -> tuple[Cost, str]:
    """What one /runsync costs over a socket once all is warm, and where its calls go.

    Of many jobs the least of each: now and then something comes to one that another does not pay, and on a
    busy machine a thread's answer may take a round more.
    """
    counts = Counts()

    def loop() -> CountingLoop:
        made = CountingLoop()
        made.counts = counts
        return made

    with _profiled(counts), asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(asyncio.wait_for(_serve_jobs(handler, counts), PATIENCE_S))


async def _serve_jobs(handler: Callable[[dict[str, Any]], object], counts: Counts) -> tuple[Cost, str]:
    async with Emulator({"ep": handler}, rate_limits=False) as emulator, emulator.serve() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), PATIENCE_S) as client:
            client.setblocking(False)
            counts.client = client
            for _ in range(_WARM_UP):
                await _run_job(client)
            seen = []
            for _ in range(_JOBS):
                counts.begin()
                await _run_job(client)
                counts.on = False
                seen.append((counts.cost(), counts.most_called(60)))
    costs = [cost for cost, _ in seen]
    cheapest = Cost(**{each.name: min(getattr(cost, each.name) for cost in costs) for each in fields(Cost)})
    return cheapest, min(seen, key=lambda each: each[0].calls)[1]


async def _run_job(client: socket.socket) -> None:
    """Ask with one send. What the client itself does is not counted."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, _REQUEST)
    answer = await loop.sock_recv(client, 65_536)
    assert b'"status":"COMPLETED"' in answer, answer
    for _ in range(_SETTLE_ROUNDS):
        await _Round()


class _Round:
    """A round of the loop, without a call that would be counted."""

    def __await__(self) -> Iterator[None]:
        yield


@contextmanager
def _profiled(counts: Counts) -> Iterator[None]:
    """Look at this thread and those that it starts."""
    before, of_threads = sys.getprofile(), threading.getprofile()
    threading.setprofile(counts.see)
    sys.setprofile(counts.see)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(of_threads)
