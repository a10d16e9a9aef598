"""SIGTERM and SIGINT: they end the process in time, also while the event loop is held.

A thread of its own hears them, as the loop may not.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from emulator.cli.log_format import flush_log, log
from emulator.clock.real_time import real_seconds
from emulator.serving.loop_watch import where

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
#: Real seconds that the loop may be held once it is to stop, and until all has ended.
_HELD_S = 3.0
_END_S = 15.0
_LOOK_EVERY_S = 0.25


def on_stop_signals(stop: Callable[[], object]) -> None:
    """Have `stop` be called on the running loop when the process is to end, and end it if that does not help.

    Worker processes end with it, whichever way it ends.
    """
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        for number in _NUMBERS:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
        return
    heard, tells = os.pipe()
    os.set_blocking(tells, False)
    for number in _NUMBERS:
        signal.signal(number, _is_heard)
    signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_forget_in_child)
    threading.Thread(
        target=_hear, args=(heard, loop, stop, threading.get_ident()), name="stop-signals", daemon=True
    ).start()


def _is_heard(*_: object) -> None:
    """Python has written to the pipe by now."""


def _hear(heard: int, loop: asyncio.AbstractEventLoop, stop: Callable[[], object], thread_id: int) -> None:
    while os.read(heard, 1)[0] not in _NUMBERS:
        pass
    until_s = real_seconds() + _END_S
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(stop)
    while real_seconds() < until_s:
        answered = threading.Event()
        # A loop that is closed is held by nobody; what is left of the process may still be.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(answered.set)
            if not answered.wait(_HELD_S):
                _end(f"the event loop is held by {where(thread_id)}")
        threading.Event().wait(_LOOK_EVERY_S)
    _end(f"it has not ended within {_END_S:g} s")


def _end(reason: str) -> None:
    log.error("ended at once: %s", reason)
    flush_log()
    os._exit(1)


#: Of each thread that forks: what it held back before.
_masks = threading.local()


def _hold_back() -> None:
    """A child that is sent a signal as soon as it is there would still have its parent's handlers."""
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _forget_in_child() -> None:
    """A child that a handler forks is no emulator: what it is sent must not reach the loop of its parent, and
    ends it as any process.
    """
    # It may have been forked by another thread, which is its main thread now.
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _let_through()
