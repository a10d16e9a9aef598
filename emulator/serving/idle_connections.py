"""Kept-alive connections, closed to make room and for no other reason.

A client may use a connection again after any pause, and one that is closed under it loses the request it
is just sending: the SDK posts a job's result on a connection that its handler has kept it from using for as
long as the job ran, and does not try a second time (wire.md 7). So no pause is too long here. What bounds
them is how many there are; a peer that has vanished is found by the kernel's own probes (`server.py`).
"""

from __future__ import annotations

import sys
from typing import Protocol

#: Of the descriptors that this process may have: the rest is for files, pipes and calls of webhooks.
_SHARE_OF_DESCRIPTORS = 0.75
_WITHOUT_LIMIT = 65_536


class Connection(Protocol):
    """A connection of the server."""

    #: A worker has called on it: it may bring a result on it at any time.
    by_worker: bool

    def close(self) -> None:
        """Close it, once what was written has been sent."""


class IdleConnections:
    """The connections of one server on which nothing is asked just now, the longest idle first."""

    def __init__(self) -> None:
        self._idle: dict[Connection, None] = {}

    def rest(self, connection: Connection) -> None:
        """A connection's request has been answered."""
        self._idle[connection] = None

    def wake(self, connection: Connection) -> None:
        """Something has come on a connection, or it is gone."""
        self._idle.pop(connection, None)

    def make_room(self, open_count: int) -> None:
        """One of `open_count` connections is new: close the longest idle one if they are too many.

        A worker's is never closed.
        """
        if open_count <= _open_limit():
            return
        spare = next((connection for connection in self._idle if not connection.by_worker), None)
        if spare is not None:
            del self._idle[spare]
            spare.close()


def _open_limit() -> int:
    """How many connections there may be before idle ones are closed."""
    if sys.platform == "win32":
        return _WITHOUT_LIMIT
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WITHOUT_LIMIT if soft == resource.RLIM_INFINITY else int(soft * _SHARE_OF_DESCRIPTORS)
