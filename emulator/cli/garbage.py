"""The garbage collector, in a process that serves: it is not to stop the loop however many jobs there are.

A full collection looks at every object that has lived for a while: with a million queued jobs for most of a
second. None of them is garbage, though, and what a job leaves needs no collector. So once such a look takes
long, what it has found alive is not looked at again (`gc.freeze`), until most of the jobs are gone.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from emulator.clock.real_time import real_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

#: After how many new objects the youngest are looked at, and how many such looks make one at the next older:
#: so that none takes more than some ms.
_THRESHOLDS = (5_000, 3, 1)
#: Real seconds that a full collection may take.
_LONG_S = 0.005
#: As many jobs are looked through quickly.
_FEW_JOBS = 1_000


class Garbage:
    """Sees to it that collections are short, from when it is made until `leave`.

    What is there by then stays, such as modules: it is not looked at either.

    :param job_count: how many jobs there are.
    """

    def __init__(self, job_count: Callable[[], int], *, long_s: float = _LONG_S) -> None:
        self._job_count = job_count
        self._long_s = long_s
        self._began_s = 0.0
        self._has_frozen_jobs = False
        self._thresholds = gc.get_threshold()
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)
        gc.callbacks.append(self._on_collection)

    def leave(self) -> None:
        """Have collections be as they were."""
        gc.callbacks.remove(self._on_collection)
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def _on_collection(self, phase: str, about: dict[str, Any]) -> None:
        if about["generation"] != 2:
            return
        if phase == "start":
            self._began_s = real_seconds()
        elif self._job_count() > _FEW_JOBS:
            if real_seconds() - self._began_s >= self._long_s:
                gc.freeze()
                self._has_frozen_jobs = True
        elif self._has_frozen_jobs:
            # What was garbage among them is found the next time.
            gc.unfreeze()
            self._has_frozen_jobs = False
