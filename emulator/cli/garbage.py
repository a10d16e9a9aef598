"""The garbage collector, in a process that serves: it is not to stop the loop, however many jobs there are.

What a job leaves is no garbage, and lives for long. So what is new is looked at often, while it is little
and still in the processor's cache, and what has outlived that only now and then: with a million queued jobs
a look at all takes most of a second.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: After how many new objects, less those that have gone, the new are looked at. Under load about as many old
#: ones go, out of the journal, as come: by then several times as many are new, and a look takes a
#: millisecond.
_THRESHOLD = 500
#: After so many such looks what has outlived one of them is looked at once more, and then no more: what was
#: under way at the first is over by then. Of a look, this is the longest.
_LOOKS = 2
#: All is looked at when it is told to be.
_NEVER = 1_000_000_000
#: Real seconds between looks at all that has come since the start.
_ALL_EVERY_S = 60.0
#: As many are looked through in less than a tenth of a second; with more there is no look at all.
_MANY_JOBS = 20_000


class Garbage:
    """Sees to it that collections are short, from when it is made until `leave`.

    What is there by then stays, such as modules: it is not looked at. It needs a running loop.

    :param job_count: how many jobs there are.
    """

    def __init__(self, job_count: Callable[[], int]) -> None:
        self._job_count = job_count
        self._thresholds = gc.get_threshold()
        gc.freeze()
        gc.set_threshold(_THRESHOLD, _LOOKS, _NEVER)
        self._looks = _looks_at_what_is_new()
        self._look_later()

    def leave(self) -> None:
        """Have collections be as they were."""
        self._timer.cancel()
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def look_at_all(self) -> None:
        """Look at what has outlived its first look, too, unless that would take long, or is in vain."""
        looks = _looks_at_what_is_new()
        if looks > self._looks and self._job_count() <= _MANY_JOBS:
            self._looks = looks
            gc.collect()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_ALL_EVERY_S, self._on_time)

    def _on_time(self) -> None:
        self.look_at_all()
        self._look_later()


def _looks_at_what_is_new() -> int:
    count: int = gc.get_stats()[0]["collections"]
    return count
