"""Where the containers of an engine reach this emulator, which listens on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.workers.containers.engine import EngineError
from emulator.workers.reach import Reach, own_address

if TYPE_CHECKING:
    from emulator.workers.containers.engine import Engine

#: An address that is nobody's (RFC 5737): the way to it is the way out of this machine.
_OUT = "192.0.2.1"
_DESKTOP_NAME = "host.docker.internal"


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
    address = own_address(towards)
    if address is None:
        raise EngineError(
            "it cannot be found out at which address containers reach this emulator: give one with"
            " --worker-address"
        )
    return Reach.by(address)
