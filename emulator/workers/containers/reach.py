"""Where the containers of an engine reach this emulator, which listens on loopback."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.workers.containers.engine import EngineError

if TYPE_CHECKING:
    from emulator.workers.containers.engine import Engine

#: An address that is nobody's (RFC 5737): the way to it is the way out of this machine.
_OUT = "192.0.2.1"
_DESKTOP_NAME = "host.docker.internal"


@dataclass(slots=True, frozen=True)
class Reach:
    """Where a door for workers is opened, and how they call it."""

    #: The address of this machine to listen on.
    listens_on: str
    #: What stands for it in the workers' URLs.
    called: str


async def reach(engine: Engine, network: str) -> Reach:
    """How containers in one of an engine's networks reach this machine.

    :raises EngineError: it cannot be found out.
    """
    if engine.is_desktop and engine.host is None:
        return Reach("127.0.0.1", _DESKTOP_NAME)
    if network == "host" and engine.host is None:
        return Reach("127.0.0.1", "127.0.0.1")
    if engine.host is not None:
        towards = engine.host
    elif engine.is_rootless:
        # Its networks' gateways are in a world of their own.
        towards = _OUT
    else:
        towards = await engine.gateway_of(network) or _OUT
    address = _own_address(towards)
    if address is None:
        raise EngineError(
            "it cannot be found out at which address containers reach this emulator: give one with"
            " --worker-address"
        )
    return Reach(address, f"[{address}]" if ":" in address else address)


def _own_address(towards: str) -> str | None:
    """The address of this machine that faces another; nothing is sent. None when there is no way there."""
    try:
        family, *_, address = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as facing:
            facing.connect(address)
            return str(facing.getsockname()[0])
    except OSError:
        return None
