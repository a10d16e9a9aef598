"""Whether an endpoint's workers can start: why not, and what of that has been told."""

from __future__ import annotations

import re

#: What differs from one failure to the next of the same kind: addresses, ports, process ids.
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d{4,}")

#: So many kinds of failure are remembered; a handler may fail in a new one each time.
_KINDS_TOLD = 100


class Starts:
    """What is known of the starts of one endpoint's workers. Only `WorkerPool` changes it."""

    def __init__(self, endpoint_id: str) -> None:
        self._endpoint_id = endpoint_id
        #: Why the last worker that was to start did not; empty once one has, and before one has tried.
        self.failure = ""
        #: What is wrong with the code, so that no worker is started with it; empty while nothing is known.
        self.broken_code = ""
        #: A worker has been up since the endpoint was opened, or since its code changed.
        self.proven = False
        #: No worker has been up since the code changed.
        self.code_is_new = False
        self._told: set[str] = set()

    @property
    def obstacle(self) -> str:
        """Why no worker starts, in a sentence; empty when one can, as far as is known."""
        if self.broken_code:
            return (
                f"no worker of {self._endpoint_id!r} is started until its code is fixed: {self.broken_code}"
            )
        if self.failure:
            return f"no worker of {self._endpoint_id!r} starts: {self.failure}"
        return ""

    def failed(self, reason: str, *, older_serves: bool) -> str:
        """A worker has not started; returns what is to be told, which is nothing if it was told before.

        `older_serves`: workers with older code are up.
        """
        self.failure = reason
        kind = _VARYING.sub("", reason)
        if self.broken_code or kind in self._told:
            return ""
        if len(self._told) >= _KINDS_TOLD:
            self._told.clear()
        self._told.add(kind)
        if not older_serves:
            return self.obstacle
        name = self._endpoint_id
        return f"the new code of {name!r} does not start, the older code goes on serving: {reason}"

    def came_up(self, *, external: bool) -> str:
        """A worker is up; returns what is to be told, if anything is. Of an external one nothing can be
        concluded but that jobs can run.
        """
        if external:
            self.proven = True
            return ""
        told = ""
        if self.code_is_new:
            told = f"the new code of {self._endpoint_id!r} serves"
        elif self.failure:
            told = f"workers of {self._endpoint_id!r} start again"
        self.proven, self.code_is_new, self.failure = True, False, ""
        self._told.clear()
        return told

    def begin(self) -> None:
        """The endpoint is opened: nothing is known of its workers yet."""
        self.proven, self.code_is_new, self.failure = False, False, ""
        self._told.clear()

    def code_changed(self) -> None:
        """The code is new: what is known is of the old."""
        self.begin()
        self.broken_code, self.code_is_new = "", True

    def code_broke(self, reason: str) -> None:
        """The code is new, and no worker can run it."""
        self.begin()
        self.broken_code = reason
