"""One call of a webhook's receiver, which can be given up at any time and leaves no socket."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

#: Real seconds after which a call that was given up while it connected is over at the latest.
CONNECT_PATIENCE_S = 30.0
#: Of an answer's body, bytes; and real seconds that it gets to come.
_ANSWER_KEPT = 4 * 1024
_ANSWER_PATIENCE_S = 0.5
_CONNECTS = "connection.connect_tcp.started"
_CONNECTED = frozenset({"connection.connect_tcp.complete", "connection.start_tls.complete"})
_SENDS = "http11.send_request_headers.started"
_ANSWERED = "http11.receive_response_headers.complete"


@dataclass(slots=True, frozen=True)
class Answered:
    """What a call brought: the status, what was wrong, and how the body begins."""

    status: int | None
    failure: str | None
    body: str = ""


def nobody_listens(url: str) -> str:
    """What to say of a receiver that refuses the connection."""
    parts = urlsplit(url)
    # Neither user nor password.
    address = parts.netloc.rpartition("@")[2]
    if parts.port is None:
        address = f"{address.rstrip(':')}:{443 if parts.scheme == 'https' else 80}"
    return f"nobody listens at {address} (in a container, localhost is the container)"


def failure_of(error: BaseException, url: str) -> str:
    """What was wrong with a call that was not answered."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return nobody_listens(url)
        if isinstance(cause, socket.gaierror):
            return f"no such host: {urlsplit(url).hostname} ({cause})"
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {error}"


class GivenUp(Exception):
    """Nobody waits for the answer any more."""


class ReceiverCall:
    """A call under way.

    Its task is cancelled when it is given up, but neither while it connects nor once it has been answered:
    what is cancelled as its connection comes about, or is being closed, loses it, open, between the layers of
    the client. Such a call ends by itself, as soon as it has connected, or at once.
    """

    def __init__(self, client: httpx.AsyncClient, url: str, body: bytes) -> None:
        self._may_be_cancelled = True
        self._given_up = False
        self.task = asyncio.get_running_loop().create_task(self._post(client, url, body))
        self.task.add_done_callback(_heard)

    def give_up(self) -> None:
        """End it; its outcome, if there is none yet, is of no interest."""
        self._given_up = True
        if self._may_be_cancelled:
            self.task.cancel()

    async def answered_or(self, over: asyncio.Future[None]) -> None:
        """Return when it has been answered, or has failed, or `over` comes first."""

        def end(_: object) -> None:
            if not over.done():
                over.set_result(None)

        self.task.add_done_callback(end)
        try:
            await over
        finally:
            self.task.remove_done_callback(end)
            self.give_up()

    def when_over(self, callback: Callable[[], object]) -> None:
        """Call back once nothing of it is left."""
        self.task.add_done_callback(lambda _: callback())

    async def _post(self, client: httpx.AsyncClient, url: str, body: bytes) -> Answered:
        following: dict[str, Any] = {"trace": self._follow}
        async with client.stream("POST", url, content=body, extensions=following) as response:
            status = response.status_code
            acknowledged = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
            return Answered(status, None if acknowledged else f"status {status}", await _beginning(response))

    async def _follow(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear how far the client has got."""
        if event in (_CONNECTS, _ANSWERED):
            self._may_be_cancelled = False
        elif event == _SENDS:
            self._may_be_cancelled = True
        elif self._given_up and event in _CONNECTED:
            await info["return_value"].aclose()
            raise GivenUp


def _heard(task: asyncio.Task[Answered]) -> None:
    """Its failure is known, be it that nobody asks for it."""
    with suppress(asyncio.CancelledError):
        task.exception()


async def _beginning(response: httpx.Response) -> str:
    """How the answer's body begins. It is for people to look at: the status alone counts, so a body that does
    not come is none.
    """
    body = b""
    with suppress(Exception):
        async with asyncio.timeout(_ANSWER_PATIENCE_S):
            async for part in response.aiter_bytes():
                body += part
                if len(body) >= _ANSWER_KEPT:
                    break
    return body[:_ANSWER_KEPT].decode("utf-8", "replace")
