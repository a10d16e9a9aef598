"""The thread of an inline worker: with a running event loop, as that in which the SDK calls a handler."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from emulator.workers.handler_loop import HandlerLoop

#: How much that was posted may wait for the emulator's loop; whoever posts more waits for it.
_POSTED_MAX = 64
#: Real seconds after which one that waits looks by itself whether there is room, or a loop.
_LOOK_AGAIN_S = 0.25

T = TypeVar("T")
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class HandlerThread:
    """Loads a handler and runs its calls off the emulator's loop, on a loop of its own that always runs.

    Tasks that a handler makes go on between its calls and after them. What is posted from the thread is
    called on the emulator's loop, in order, many at a time, but never more than that loop can take.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._process_id = os.getpid()
        self._emulators_loop = asyncio.get_running_loop()
        self._loop: HandlerLoop | None = None
        #: None tells the thread to look at its loop, or at `is_closed`.
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._work_came = asyncio.Event()
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._wakeup_sent = False
        self._has_room = threading.Event()
        self._thread: threading.Thread | None = None
        #: It is to end, or has.
        self.is_closed = False
        #: Told on the emulator's loop what would have ended production's process.
        self.on_death: Callable[[BaseException], object] | None = None

    def load(self, load: Callable[[], T]) -> Future[T]:
        """Start the thread, and have it do this first. As in production, no loop runs yet meanwhile."""
        loaded: Future[T] = Future()
        # Nobody waiting for it any more does not undo what it is.
        loaded.set_running_or_notify_cancel()
        self._start(lambda: self._load(load, loaded))
        return loaded

    def run(self, work: Work) -> None:
        """Have its loop run `work` once what it was given before has ended."""
        if self._loop is None:
            self._start()
        self._put(work)

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task of its loop."""
        if self._loop is not None:
            # Closed: the task has ended with the loop.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """Let the thread end once nothing blocks it; its tasks are cancelled. One stuck in a handler is left
        behind.
        """
        self.is_closed = True
        self._put(None)

    @property
    def loop_is_used(self) -> bool:
        """Whether the handler has ever put anything on the loop, which then turns between its calls."""
        return self._loop is not None and self._loop.is_used

    @property
    def is_current(self) -> bool:
        """Whether this is called in it; a handler may have started threads of its own."""
        return threading.current_thread() is self._thread

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """From the thread: have the emulator's loop call `function`, in order with everything posted.

        Waits while too much that was posted has not been called.
        """
        if os.getpid() != self._process_id:
            # The handler has forked, and this is the child, which has left it: the job is its parent's.
            os._exit(0)
        while len(self._posted) >= _POSTED_MAX and not self._emulators_loop.is_closed():
            self._has_room.clear()
            if len(self._posted) >= _POSTED_MAX:
                self._has_room.wait(_LOOK_AGAIN_S)
        self._posted.append((function, arguments))
        if not self._wakeup_sent:
            self._wakeup_sent = True
            try:
                self._emulators_loop.call_soon_threadsafe(self._deliver_posted)
            except RuntimeError:
                # The loop is closed: the emulator is gone, and nobody waits any more.
                self._posted.clear()

    def _deliver_posted(self) -> None:
        """Call what is there now; others have their turn before what comes meanwhile."""
        self._wakeup_sent = False
        try:
            for _ in range(len(self._posted)):
                function, arguments = self._posted.popleft()
                function(*arguments)
        finally:
            if self._posted and not self._wakeup_sent:
                self._wakeup_sent = True
                self._emulators_loop.call_soon(self._deliver_posted)
            if not self._has_room.is_set():
                self._has_room.set()

    def _put(self, work: Work | None) -> None:
        self._work.put(work)
        if self._loop is not None and self._loop.is_used:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._work_came.set)

    def _start(self, first: Callable[[], None] | None = None) -> None:
        loop = self._loop = HandlerLoop(lambda: self._work.put(None))
        self._thread = threading.Thread(target=self._live, args=(loop, first), name=self._name, daemon=True)
        self._thread.start()

    # In the thread

    def _live(self, loop: HandlerLoop, first: Callable[[], None] | None) -> None:
        try:
            with ExitStack() as ended, asyncio.Runner(loop_factory=lambda: loop) as runner:
                if first is not None:
                    ended.enter_context(_current_loop())
                    first()
                runner.run(self._serve(loop))
        except BaseException as error:  # the SystemExit of a handler's task ends production's process
            if not self.is_closed:
                self.is_closed = True
                self.post(self._die, error)

    def _load(self, load: Callable[[], T], loaded: Future[T]) -> None:
        try:
            loaded.set_result(load())
        except BaseException as error:  # whoever waits for it is to have it, whatever it is
            self.is_closed = True
            loaded.set_exception(error)

    async def _serve(self, loop: HandlerLoop) -> None:
        loop.forget_use()
        while not self.is_closed:
            # A loop with nothing on it may as well wait here, which takes half as long.
            work = await self._next() if loop.is_used else self._work.get()
            if work is not None:
                await work()
            # What the work knew of its jobs is to live no longer than it.
            del work

    async def _next(self) -> Work | None:
        while self._work.empty():
            self._work_came.clear()
            if self._work.empty():
                await self._work_came.wait()
        return self._work.get()

    # On the emulator's loop again

    def _die(self, error: BaseException) -> None:
        if self.on_death is not None:
            self.on_death(error)


@contextmanager
def _current_loop() -> Iterator[None]:
    """Have `asyncio.get_event_loop` find a loop that does not run, as it does in a main thread up to 3.13."""
    if sys.version_info >= (3, 14):
        yield
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        # Another thread may have been given it to run.
        if not loop.is_running():
            loop.close()
