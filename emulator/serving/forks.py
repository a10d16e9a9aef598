"""What a child that a handler forks must not have of the server: its sockets.

While a child holds the listening socket, the port is taken after the emulator has gone; while it holds a
connection, a client waits for its end. What is started by `exec` has neither.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Sockets(Protocol):
        """A server."""

        def files(self) -> Iterable[int]:
            """The numbers of its sockets."""


_servers: WeakSet[Sockets] = WeakSet()


def keep_from_children(server: Sockets) -> None:
    """Have a forked child close the sockets of a server, for as long as there is one."""
    _servers.add(server)


def _close_in_child() -> None:
    for server in list(_servers):
        for number in server.files():
            with suppress(OSError):
                os.close(number)
    _servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
