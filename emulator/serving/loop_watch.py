"""Notices when the event loop stands still, and says in what: nobody is served meanwhile."""

from __future__ import annotations

import asyncio
import logging
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.clock.real_time import real_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

log = logging.getLogger("emulator")

#: Real seconds between two looks, and how long the loop may take to answer one.
_LOOK_EVERY_S = 0.25
_STANDS_STILL_S = 1.0
_OURS = str(Path(__file__).parents[1])
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
#: What the thread of a loop is in that has nothing to do.
_IDLE = frozenset({("selectors.py", "select"), ("runners.py", "run"), ("base_events.py", "run_forever")})


class LoopWatch:
    """A thread that asks the loop in which it is made, four times a second, whether it goes on.

    Each time that it does not for over a second, the log says so, once, with the code it is in.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()

    def end(self) -> None:
        """Watch no more."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            asked_s = real_seconds()
            answered = threading.Event()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                # It is closed.
                return
            if answered.wait(_STANDS_STILL_S):
                continue
            told = where(self._thread_id)
            if told:
                log.warning("nothing has been served for over a second: the event loop is held by %s", told)
            while not answered.wait(_LOOK_EVERY_S) and not self._ended.is_set():
                pass
            if told:
                log.warning("the event loop goes on, after %.1f s", real_seconds() - asked_s)


def where(thread_id: int) -> str:
    """What the loop's thread is doing; empty when it does nothing."""
    frame = sys._current_frames().get(thread_id)
    if frame is None or (Path(frame.f_code.co_filename).name, frame.f_code.co_name) in _IDLE:
        return ""
    stack = list(_outwards(frame))
    for each in stack:
        if not each.f_code.co_filename.startswith((_OURS, "<", *_LIBRARIES)):
            return (
                f"{_place(each)}. An async handler of an inline worker shares the loop: await what takes"
                " long, make it a plain function, or use worker processes"
            )
    for each in stack:
        if each.f_code.co_filename.startswith(_OURS):
            return _place(each)
    return _place(frame)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_name}, {frame.f_code.co_filename} line {frame.f_lineno}"
