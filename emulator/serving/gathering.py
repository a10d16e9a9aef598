"""A connection of the server: one write for each reply, and no end of its own.

uvicorn makes two writes, and a system call costs more than a job; it closes what was idle for a while, and at
once what a client has half closed, or has sent a request on that it answers early.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from emulator.serving.early_answers import ReadingOn
from emulator.serving.half_closed import HalfClosed, can_be_told

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.serving.half_sent import HalfSent
    from emulator.serving.idle_connections import IdleConnections

#: The head of a request in all: its target and its headers.
_HEAD_MAX_KIB = 64
_TOO_LARGE = (
    f"the head of the request, its URL and headers, is larger than {_HEAD_MAX_KIB} KiB: send less in it"
)
_CLOSE = (b"connection", b"close")
_TOO_LATE = "the rest of the request did not come: send all of it, or close the connection"


class GatheringProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a transport that gathers what is written.

    `idle` knows the connections that could be closed; see there why time alone closes none. `half_sent` ends
    those on which the rest of a request does not come.
    """

    def __init__(self, *, idle: IdleConnections, half_sent: HalfSent, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._idle = idle
        self._half_sent = half_sent
        #: A request has begun, and has not come whole: its head, or its body.
        self._is_half_sent = False
        self.in_head = False
        #: Bytes that came last; of the head, at most; and of the pieces that were of the head alone.
        self._piece_size = self._come_size = self._head_pieces_size = 0
        #: A request has begun in what came last.
        self._has_begun = False
        #: It was answered at its head.
        self._is_refused = False
        self._half_closed: HalfClosed | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a new connection."""
        self._gathering = GatheringTransport(cast(asyncio.Transport, transport), self._has_more_to_read)
        super().connection_made(cast(asyncio.Transport, self._gathering))
        self._idle.make_room(len(self.connections))
        self._idle.rest(self._gathering)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has closed it, or it broke."""
        self._idle.wake(self._gathering)
        self._half_sent.forget(self)
        if self._half_closed is not None:
            self._half_closed.end()
        self._gathering.ended()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something has come."""
        if (reading_on := self._gathering.reading_on) is not None:
            reading_on.drop(data)
            return
        self._idle.wake(self._gathering)
        was_in_head, self._has_begun, self._piece_size = self.in_head, False, len(data)
        if was_in_head:
            self._come_size += self._piece_size
        super().data_received(data)
        if was_in_head and self.in_head and not self._has_begun:
            self._head_pieces_size += self._piece_size
            if self._head_pieces_size > 2 * _HEAD_MAX_KIB * 1024 and not self._is_refused:
                # What has been kept of it could grow without end.
                self._refuse_head()
                return
        if self._is_half_sent:
            self._half_sent.saw(self)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends no more. One that waits for its answer gets it; a worker's poll, or a stream, ends
        here, as nobody must be given a job, or be written to, who may have gone.
        """
        cycle = self.cycle
        if (
            self._is_half_sent
            or cycle is None
            or cycle.response_started
            or self._gathering.by_worker
            or self._gathering.is_closing()
            or not can_be_told()
            # Under TLS no side can be closed alone.
            or not self._gathering.can_write_eof()
        ):
            return None
        _end_with_answer(cycle)
        if cycle.scope["http_version"] == "1.1":
            self._half_closed = HalfClosed(
                self._gathering.get_extra_info("socket"), self._write_interim, self._gathering.abort
            )
        return True

    def on_message_begin(self) -> None:
        """A request begins: an ordered fault may have to cut its connection, and a worker may be calling."""
        super().on_message_begin()
        self._is_half_sent = self.in_head = True
        self._come_size, self._head_pieces_size, self._has_begun = self._piece_size, 0, True
        self.scope["emulator.connection"] = self._gathering  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        """The head of a request has come whole."""
        self.in_head = False
        if self._is_refused:
            return
        if self._come_size > _HEAD_MAX_KIB * 1024 and self._head_size() > _HEAD_MAX_KIB * 1024:
            self._refuse_head()
            return
        super().on_headers_complete()
        if self.cycle.keep_alive and not self.parser.should_keep_alive():
            # Older versions of uvicorn do not close what the client asks to be closed.
            _end_with_answer(self.cycle)
        self.scope["emulator.answer"] = partial(  # type: ignore[typeddict-unknown-key]
            self._answer_whole, self.cycle
        )

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has come whole."""
        self._is_half_sent = False
        if self._is_refused:
            return
        self._half_sent.forget(self)
        super().on_message_complete()

    @property
    def waits_for_us(self) -> bool:
        """Whether it is not being read: what is missing is not the client's fault."""
        return self.flow.read_paused

    def give_up(self) -> None:
        """The rest of a request has not come in time."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self._answer_at_once(HTTPStatus.REQUEST_TIMEOUT, _TOO_LATE)
        self._is_half_sent = False
        self._gathering.close()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse_head(self) -> None:
        """A head is too large: the rest of the request is not looked at."""
        self._is_refused = True
        self._is_half_sent = True
        self._answer_at_once(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LARGE)
        self._half_sent.forget(self)
        self._gathering.close()

    def _answer_at_once(self, status: HTTPStatus, detail: str) -> None:
        error = {"status": status, "title": status.phrase, "detail": detail, "error": detail}
        body = json.dumps(error).encode()
        self._gathering.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b" % (status, status.phrase.encode(), len(body), body)
        )

    def shutdown(self) -> None:
        """The server stops: this is closed with its next answer, or now."""
        if self._gathering.reading_on is not None:
            self._gathering.abort()
        elif self._is_half_sent:
            self.give_up()
        else:
            super().shutdown()

    def _answer_whole(self, cycle: RequestResponseCycle, head: bytes, body: bytes) -> bool:
        """Write an answer that is there as a whole; False where it must be sent piece by piece (ASGI).

        uvicorn looks at each header, and writes twice; for what is answered most, that takes as long as to
        make the answer. `head` has its lines, each with its end.
        """
        if cycle.response_started or cycle.disconnected or self.flow.write_paused or not cycle.keep_alive:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self._gathering.write_now(b"%b\r\n%b" % (head, body))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _has_more_to_read(self) -> bool:
        """Whether the client is still sending what has been answered already."""
        if self._is_half_sent:
            self.flow.resume_reading()
        return self._is_half_sent

    def _write_interim(self, data: bytes) -> None:
        if self.cycle.response_started:
            assert self._half_closed is not None
            self._half_closed.end()
        else:
            self._gathering.write(data)

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
            # As uvicorn does, which has had no method for it all along.
            task = self.loop.create_task(cycle.run_asgi(app))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)
        else:
            self._idle.rest(self._gathering)


def _end_with_answer(cycle: RequestResponseCycle) -> None:
    """Have the connection closed once the request is answered, and the client told so."""
    cycle.keep_alive = False
    # By this alone older versions of uvicorn tell the client.
    cycle.scope["headers"] = [*cycle.scope["headers"], _CLOSE]


class GatheringTransport:
    """A transport that hands on everything written in one round of the loop at the round's end."""

    __slots__ = ("_gathered", "_has_more_to_read", "_loop", "_transport", "by_worker", "reading_on")

    def __init__(self, transport: asyncio.Transport, has_more_to_read: Callable[[], bool]) -> None:
        #: A worker has called on it: it may bring a result on it at any time.
        self.by_worker = False
        #: It is closed on our side, and the client has not noticed yet.
        self.reading_on: ReadingOn | None = None
        self._transport = transport
        self._has_more_to_read = has_more_to_read
        self._loop = asyncio.get_running_loop()
        self._gathered: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep the data until the round ends."""
        if self.reading_on is not None:
            return
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(data)

    def write_now(self, data: bytes) -> None:
        """Write the data, and what was kept before."""
        if self.reading_on is None:
            self._gathered.append(data)
            self._flush()

    def close(self) -> None:
        """Close once everything has been sent, and a client that was answered early has read it."""
        self._flush()
        if self.is_closing():
            return
        if self._transport.can_write_eof() and self._has_more_to_read():
            self._transport.write_eof()
            self.reading_on = ReadingOn(self._transport.abort)
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        """Whether nothing more is to be written."""
        return self.reading_on is not None or self._transport.is_closing()

    def ended(self) -> None:
        """The connection is gone."""
        if self.reading_on is not None:
            self.reading_on.end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._gathered:
            data, self._gathered = b"".join(self._gathered), []
            # A client may have gone meanwhile.
            if not self._transport.is_closing():
                self._transport.write(data)
