"""Where workers that are not on this machine's loopback reach this emulator, which listens there."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Reach:
    """Where a door for workers is opened, and how they call it."""

    #: The address of this machine to listen on.
    listens_on: str
    #: What stands for it in the workers' URLs.
    called: str

    @classmethod
    def by(cls, address: str) -> Reach:
        """By an address of this machine."""
        return cls(address, f"[{address}]" if ":" in address else address)


def own_address(towards: str) -> str | None:
    """The address of this machine that faces another; nothing is sent. None when there is no way there."""
    try:
        family, *_, address = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as facing:
            facing.connect(address)
            return str(facing.getsockname()[0])
    except OSError:
        return None
