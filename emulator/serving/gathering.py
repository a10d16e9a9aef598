"""A connection of the server: one write for each reply, and no end of its own.

uvicorn makes two writes, and a system call costs more than a job; and it closes what was idle for a while.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from emulator.serving.idle_connections import IdleConnections


class GatheringProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a transport that gathers what is written.

    `idle` knows the connections that could be closed; see there why time alone closes none.
    """

    def __init__(self, *, idle: IdleConnections, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._idle = idle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a new connection."""
        self._gathering = GatheringTransport(cast(asyncio.Transport, transport))
        super().connection_made(cast(asyncio.Transport, self._gathering))
        self._idle.make_room(len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has closed it, or it broke."""
        self._idle.wake(self._gathering)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something has come."""
        self._idle.wake(self._gathering)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins: an ordered fault may have to cut its connection, and a worker may be calling."""
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["emulator.connection"] = self._gathering

    def on_response_complete(self) -> None:
        """A request has been answered: begin with the next, or wait for it, however long that takes.

        In place of uvicorn's own, which arms a timer here that closes the connection.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._idle.rest(self._gathering)


class GatheringTransport:
    """A transport that hands on everything written in one round of the loop at the round's end."""

    __slots__ = ("_gathered", "_loop", "_transport", "by_worker")

    def __init__(self, transport: asyncio.Transport) -> None:
        #: A worker has called on it: it may bring a result on it at any time.
        self.by_worker = False
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._gathered: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep the data until the round ends."""
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(data)

    def close(self) -> None:
        """Close once everything has been sent."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._gathered:
            data, self._gathered = b"".join(self._gathered), []
            self._transport.write(data)
