"""A webhook receiver on a loopback socket: writes down what it is sent, answers as it is told."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

#: An answer that does not come until `Receiver.release`.
HANG = 0


@dataclass(frozen=True)
class Delivered:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def job(self) -> dict[str, Any]:
        """The job it tells of."""
        return json.loads(self.body)


class Receiver:
    """Answers with its `answers` in turn (a status code or `HANG`), the last of them from then on."""

    def __init__(self, answers: Iterable[int] = (200,)) -> None:
        self.answers = list(answers)
        self.requests: list[Delivered] = []
        self.port = 0
        self._arrived = asyncio.Condition()
        self._released = asyncio.Event()
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The bodies that have arrived."""
        return [request.job for request in self.requests]

    @property
    def states(self) -> list[tuple[str, str]]:
        """Which job was told to be in which state, in order."""
        return [(job["id"], job["status"]) for job in self.jobs]

    async def received(self, count: int) -> None:
        """Return once so many requests have arrived in all."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)

    def release(self) -> None:
        """Answer those who were left hanging with 200."""
        self._released.set()

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            self.requests.append(await _read_request(reader))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            async with self._arrived:
                self._arrived.notify_all()
            if answer == HANG:
                await self._released.wait()
                answer = 200
            head = [f"HTTP/1.1 {answer} Status", "content-length: 0", "connection: close"]
            if 300 <= answer < 400:
                head.append(f"location: {self.url}/elsewhere")
            writer.write("\r\n".join([*head, "", ""]).encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            # The caller has given up.
            return
        finally:
            self._connections.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        """Cut every connection."""
        for writer in list(self._connections):
            writer.close()
        self.release()


@asynccontextmanager
async def receiving(*answers: int) -> AsyncIterator[Receiver]:
    """A receiver that answers so, 200 when nothing is said."""
    receiver = Receiver(answers or (200,))
    server = await asyncio.start_server(receiver.serve_one, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        receiver.hang_up()
        await server.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> Delivered:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Delivered(method, path, headers, await reader.readexactly(int(headers["content-length"])))
