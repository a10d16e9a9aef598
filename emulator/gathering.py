"""One write to the socket for each reply: uvicorn makes two, and a system call costs more than a job."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class GatheringProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a transport that gathers what is written."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a new connection."""
        super().connection_made(
            cast(asyncio.Transport, GatheringTransport(cast(asyncio.Transport, transport)))
        )

    def on_message_begin(self) -> None:
        """A request begins: an ordered fault may have to cut its connection."""
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["emulator.connection"] = self.transport


class GatheringTransport:
    """A transport that hands on everything written in one round of the loop at the round's end."""

    __slots__ = ("_gathered", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
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
