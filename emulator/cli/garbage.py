"""The garbage collector, in a process that serves: it is not to stop the loop, however many jobs there are.

A full collection looks at every object that has lived for a while: with a million queued jobs for most of a
second. None of them is garbage, and what a job leaves needs no collector. So while there are very many, what
has outlived its first look is not looked at again (`gc.freeze`). What becomes garbage among it is found once
they are gone; that is no more than what was under way at the moments of such looks.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: After how many new objects these are looked at: those of some thousand jobs, so that few requests wait.
_THRESHOLD = 50_000
#: As many are looked through in some hundredths of a second.
_MANY_JOBS = 20_000


class Garbage:
    """Sees to it that collections are short, from when it is made until `leave`.

    What is there by then stays, such as modules: it is not looked at either.

    :param job_count: how many jobs there are.
    """

    def __init__(self, job_count: Callable[[], int]) -> None:
        self._job_count = job_count
        self._has_frozen_jobs = False
        self._thresholds = gc.get_threshold()
        gc.freeze()
        gc.set_threshold(_THRESHOLD)
        gc.callbacks.append(self._on_collection)

    def leave(self) -> None:
        """Have collections be as they were."""
        gc.callbacks.remove(self._on_collection)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def _on_collection(self, phase: str, _about: dict[str, Any]) -> None:
        if phase != "stop":
            return
        if self._job_count() > _MANY_JOBS:
            gc.freeze()
            self._has_frozen_jobs = True
        elif self._has_frozen_jobs:
            gc.unfreeze()
            self._has_frozen_jobs = False
