"""Server-sent events that end when their client goes, whatever server sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.sse import EventSourceResponse

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class EventStream(EventSourceResponse):
    """Events as they happen, until their client has gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them, and listen for the end of the client, which every server tells.

        One that speaks version 2.4 of ASGI, as uvicorn 0.32.0 says it does, would not be listened to: it
        fails the next event that is sent. Where nothing happens that is late, and it leaves the generator
        of the events suspended, for the garbage collector to close.
        """
        asgi = {**scope["asgi"], "spec_version": "2.3"}
        await super().__call__({**scope, "asgi": asgi}, receive, send)
