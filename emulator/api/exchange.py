"""One request and its reply, as close to the wire as ASGI allows: this is the hot path."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qsl

from emulator.errors import BodyTooLarge, EmulatorError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from starlette.types import Receive, Scope, Send

#: wire.md 2 and 4: what `?wait` accepts, ms.
WAIT_MIN_MS = 1_000
WAIT_MAX_MS = 300_000
#: Of a body that is streamed, what is kept, bytes.
STREAM_KEPT = 64 * 1024
_EVENT_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
)
_MIB = 1024 * 1024
_T = TypeVar("_T")
#: Real seconds, as a connection is real whatever the emulated time.
_LISTEN_AFTER_S = 0.2


class Connection(Protocol):
    """The connection on which a request came (`serving/gathering.py`)."""

    #: A worker has called on it: it may bring a result on it at any time, so it stays open.
    by_worker: bool

    def is_closing(self) -> bool:
        """Whether nothing more can be written to it."""

    def close(self) -> None:
        """Close it, once what was written has been sent."""

    def abort(self) -> None:
        """Cut it: what was written may be lost."""

    def get_extra_info(self, name: str) -> Any:
        """What is known of it, such as its `socket`."""


class ClientGone(EmulatorError):
    """The client hung up before it was answered."""


@dataclass(slots=True)
class Reply:
    """A JSON answer: status code, body, and headers beyond the usual."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    #: Of a refusal, why: for the log, as SDKs show their users the status code alone.
    reason: str = ""


class StreamedReply:
    """An answer whose body is server-sent events, written as they come; its beginning is kept for the log."""

    __slots__ = ("_pieces", "body", "headers", "on_end", "status")

    def __init__(self, pieces: AsyncGenerator[bytes], on_end: Callable[[], object]) -> None:
        self.status = 200
        self.headers = _EVENT_STREAM
        self.body = b""
        #: Called when it has been sent, or cannot be.
        self.on_end = [on_end]
        self._pieces = pieces

    async def send(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        """Put it on the wire, piece by piece, as fast as the client reads."""
        try:
            async with aclosing(self._pieces):
                await send(
                    {
                        "type": "http.response.start",
                        "status": self.status,
                        "headers": [*headers, *self.headers],
                    }
                )
                async for piece in self._pieces:
                    if len(self.body) < STREAM_KEPT:
                        self.body += piece[: STREAM_KEPT - len(self.body)]
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        finally:
            for told in self.on_end:
                told()


class ListeningSoon:
    """Calls that wait, and of which most are answered before anybody need listen for their clients: one timer
    for them all, that listens for those which were there the last time.
    """

    def __init__(self) -> None:
        self._new: dict[Call, None] = {}
        self._older: dict[Call, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Call) -> None:
        """It begins to wait."""
        self._new[call] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LISTEN_AFTER_S, self._look)

    def discard(self, call: Call) -> None:
        """It waits no more."""
        if call in self._new:
            del self._new[call]
        else:
            self._older.pop(call, None)

    def _look(self) -> None:
        for call in self._older:
            call.listen()
        self._older, self._new = self._new, {}
        self._timer = None
        if self._older:
            self._timer = asyncio.get_running_loop().call_later(_LISTEN_AFTER_S, self._look)


class Call:
    """A request to one of an endpoint's operations."""

    __slots__ = (
        "_has_read_body", "_listener", "_listening_soon", "_query", "_receive", "_waiting", "body_read",
        "connection", "headers", "job_id", "method", "path", "query_string",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[bytes, bytes],
        path: str,
        job_id: str,
        listening_soon: ListeningSoon,
    ) -> None:
        self.method: str = scope["method"]
        self.path = path
        self.job_id = job_id
        self.headers = headers
        self.query_string: bytes = scope["query_string"]
        #: None where the server does not tell.
        self.connection: Connection | None = scope.get("emulator.connection")
        #: What has been read of the body.
        self.body_read = b""
        self._has_read_body = False
        self._receive = receive
        self._listening_soon = listening_soon
        self._query: dict[str, str] | None = None
        self._listener: asyncio.Task[None] | None = None

    @property
    def query(self) -> dict[str, str]:
        """The parameters after the `?`; of one that is given twice the last counts."""
        if self._query is None:
            text = self.query_string.decode("utf-8", "replace")
            if "%" in text or "+" in text:
                self._query = dict(parse_qsl(text, keep_blank_values=True))
            else:
                # As mostly: nothing is escaped in it, and it is quickly taken apart.
                pairs = (pair.partition("=") for pair in text.split("&") if pair)
                self._query = {name: value for name, _, value in pairs}
        return self._query

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        """A whole number from the URL's parameters.

        :raises InvalidRequest: it is not one, or out of bounds.
        """
        if not self.query_string or (text := self.query.get(name)) is None:
            return default
        number = _integer(text)
        if number is None or not lowest <= number <= highest:
            raise InvalidRequest(f"?{name}", text, f"must be an integer from {lowest} to {highest}")
        return number

    def wait_ms(self, default_ms: int) -> int:
        """For how long the answer may be held, from `?wait`.

        :raises InvalidRequest: it is not a number of milliseconds within the bounds of wire.md 2.
        """
        return self.integer("wait", default_ms, WAIT_MIN_MS, WAIT_MAX_MS)

    def ttl(self) -> int | str | None:
        """`?ttl` as it stands on the URL: a number when it is one; its bounds are the policy's."""
        if not self.query_string or (text := self.query.get("ttl")) is None:
            return None
        number = _integer(text)
        return text if number is None else number

    async def body(self, limit_mib: int) -> bytes:
        """The request's body; one that is too large is refused before it is in memory.

        :raises BodyTooLarge: it is larger than `limit_mib` (wire.md 1).
        :raises ClientGone: the client hung up while sending it.
        """
        limit = limit_mib * _MIB
        if self._has_read_body:
            # A fault had to look at it first.
            if len(self.body_read) > limit:
                raise _too_large(limit_mib)
            return self.body_read
        announced = _integer(self.headers.get(b"content-length", b"0").decode("latin-1"))
        if announced is not None and announced > limit:
            raise _too_large(limit_mib)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest_of_body(body, limit, limit_mib)
        if len(body) > limit:
            raise _too_large(limit_mib)
        self.body_read = body
        self._has_read_body = True
        return body

    async def _rest_of_body(self, start: bytes, limit: int, limit_mib: int) -> bytes:
        body = bytearray(start)
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body += message.get("body", b"")
            if len(body) > limit:
                raise _too_large(limit_mib)
            more = message.get("more_body", False)
        return bytes(body)

    async def while_connected(self, waiting: Coroutine[Any, Any, _T], *, listen_at_once: bool = False) -> _T:
        """Wait for something on the client's behalf, for as long as there is a client.

        Unless `listen_at_once`, one that hangs up within some tenths of a real second is missed only then.

        :raises ClientGone: it hung up.
        """
        task = asyncio.current_task()
        assert task is not None
        self._waiting = task
        # Most answers are there sooner than a task that listens for the end of the connection.
        if listen_at_once:
            self.listen()
        else:
            self._listening_soon.add(self)
        try:
            return await waiting
        except asyncio.CancelledError:
            if self._listener is not None and self._listener.done() and task.uncancel() == 0:
                raise ClientGone from None
            raise
        finally:
            self._listening_soon.discard(self)
            if self._listener is not None:
                self._listener.cancel()

    def listen(self) -> None:
        """From now on, notice it when the client hangs up while it is waited on its behalf."""
        self._listener = asyncio.get_running_loop().create_task(self._cancel_when_gone(self._waiting))

    async def _cancel_when_gone(self, task: asyncio.Task[Any]) -> None:
        # What is left of a body that nobody has read comes first.
        while (await self._receive())["type"] != "http.disconnect":
            pass
        task.cancel()


def _too_large(limit_mib: int) -> BodyTooLarge:
    return BodyTooLarge(f"bad request: body: exceeded max body size of {limit_mib}MiB")


def _integer(text: str) -> int | None:
    return int(text) if len(text) <= 20 and text.isascii() and text.removeprefix("-").isdigit() else None
