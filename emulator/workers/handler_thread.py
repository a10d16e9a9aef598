"""The thread in which an inline worker runs a handler that is not async."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from emulator.clock.clock import real_seconds

if TYPE_CHECKING:
    from emulator.core.job import Job


class Call:
    """One call of a handler in the thread."""

    __slots__ = ("_claim", "abandoned", "job", "took_s")

    def __init__(self, job: Job) -> None:
        self.job = job
        #: Nobody waits for it any more.
        self.abandoned = False
        #: Real seconds it ran.
        self.took_s = 0.0
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """Whether the call is the caller's: the thread's, to run it, or the loop's, to take it back."""
        return self._claim.acquire(blocking=False)


class HandlerThread:
    """Runs calls one after the other, off the event loop; outcomes come back in order, many at a time.

    `run(call)` is called in the thread; `on_end(call, outcome)` then on the loop, with what it returned
    or the exception it raised.
    """

    def __init__(
        self, name: str, run: Callable[[Call], object], on_end: Callable[[Call, object], None]
    ) -> None:
        self._name = name
        self._run_call = run
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[list[Call] | None] = SimpleQueue()
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._wakeup_sent = False
        self._thread: threading.Thread | None = None

    def call(self, calls: list[Call]) -> None:
        """Have calls run, in order, after those before them."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put(calls)

    def close(self) -> None:
        """Let the thread end once it has nothing to do. One stuck in a handler is left behind."""
        self._calls.put(None)

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """From the thread: have the loop call `function`, in order with everything else posted."""
        self._posted.append((function, arguments))
        if not self._wakeup_sent:
            self._wakeup_sent = True
            try:
                self._loop.call_soon_threadsafe(self._deliver_posted)
            except RuntimeError:
                # The loop is closed: the emulator is gone, and nobody waits any more.
                self._posted.clear()

    def _deliver_posted(self) -> None:
        self._wakeup_sent = False
        while self._posted:
            function, arguments = self._posted.popleft()
            function(*arguments)

    def _run(self) -> None:
        while (calls := self._calls.get()) is not None:
            # The thread must not keep the last job alive while it waits for the next: pop, and no variable.
            calls.reverse()
            while calls:
                self._run_one(calls.pop())

    def _run_one(self, call: Call) -> None:
        if not call.claim():
            return
        began_s = real_seconds()
        outcome: object
        try:
            outcome = self._run_call(call)
        except BaseException as error:  # the handler's SystemExit must not end the thread either
            outcome = error
        call.took_s = real_seconds() - began_s
        self.post(self._on_end, call, outcome)
