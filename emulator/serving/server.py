"""The HTTP server: uvicorn on a socket of ours, started and stopped without its ticks."""

from __future__ import annotations

import asyncio
import errno
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from emulator.errors import ConfigError
from emulator.serving.forks import keep_from_children
from emulator.serving.gathering import GatheringProtocol
from emulator.serving.half_sent import HalfSent
from emulator.serving.idle_connections import IdleConnections

if TYPE_CHECKING:
    import ssl

    from starlette.types import ASGIApp

#: Connections the kernel holds for us while the loop is busy: a burst of clients is not refused.
_BACKLOG = 4096
#: Real seconds that a request gets to end once its connection has.
_GONE_PATIENCE_S = 0.2
#: Seconds without a word after which the kernel asks a peer whether it is still there, between two such
#: questions, and how many may stay unanswered: a client whose machine has vanished holds nothing for long.
_PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


class HTTPServer(uvicorn.Server):
    """Serves one app on one socket.

    uvicorn's own main loop wakes ten times a second and needs at least two such ticks to stop; this
    one is driven by events alone.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(
                    type[asyncio.Protocol],
                    partial(GatheringProtocol, idle=IdleConnections(), half_sent=HalfSent()),
                ),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                ws="none",
                proxy_headers=False,
                backlog=_BACKLOG,
            )
        )
        self._listener = listener
        self._tls = tls
        keep_from_children(self)

    async def start(self) -> None:
        """Accept connections."""
        self.config.load()
        self.config.ssl = self._tls
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[self._listener])

    def files(self) -> list[int]:
        """The numbers of its sockets."""
        connections = (cast(Any, connection).transport for connection in self.server_state.connections)
        sockets = (self._listener, *(each.get_extra_info("socket") for each in connections))
        return [number for each in sockets if (number := each.fileno()) >= 0]

    async def stop(self, patience_s: float) -> None:
        """Refuse new connections; requests get `patience_s` real seconds, then they are cut."""
        for server in self.servers:
            server.close()
        self._listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if tasks := set(self.server_state.tasks):
            _, unanswered = await asyncio.wait(tasks, timeout=patience_s)
            if unanswered:
                # Most end with their connections, which is less of a noise.
                for connection in list(self.server_state.connections):
                    cast(Any, connection).transport.abort()
                _, unanswered = await asyncio.wait(unanswered, timeout=_GONE_PATIENCE_S)
            for task in unanswered:
                task.cancel()
            await asyncio.gather(*unanswered, return_exceptions=True)
        for connection in list(self.server_state.connections):
            connection.shutdown()


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """A listening socket; port 0 takes any that is free. `option` is what sets the port.

    :raises ConfigError: the address cannot be bound; the message says what to do.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With the protocol named, every event loop sets TCP_NODELAY on the connections.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host!r}: {error.strerror}: check --host") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _have_peers_probed(listener)
    try:
        listener.bind(address)
        # Two that bind at the same time both succeed: only here is the second refused.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            advice = (
                f"port {port} is in use: stop what uses it, or choose another with {option} (0 takes any)"
            )
        elif error.errno == errno.EACCES:
            advice = f"port {port} needs more rights: choose one above 1023 with {option}"
        else:
            advice = f"cannot bind {host} port {port}: {error.strerror}: check --host"
        raise ConfigError(advice) from error
    listener.setblocking(False)
    return listener


def _have_peers_probed(listener: socket.socket) -> None:
    """Set it for the connections that are accepted, which inherit it."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        # Not every system can be told how.
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The URL at which a client of this machine reaches a socket."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
