"""The yardstick: what uvicorn alone can do when every job takes one hop through a queue.

No framework, no checks, no timers: an ASGI app that parses a body, has one consumer task answer it and
writes the body our server would write.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]


class BareApp:
    """POST /runsync; POST /run of a job that is finished at once, and GET /status/{id} of such a job."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[dict[str, Any], asyncio.Future[Any]]] = asyncio.Queue()
        self._consumer: asyncio.Task[None] | None = None
        self._status_bodies: dict[str, bytes] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request, or the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["method"] == "POST" and scope["path"] == "/runsync":
            await _answer(send, 200, await self._run(await _body(receive)))
        elif (body := self._status_bodies.get(scope["path"].removeprefix("/status/"))) is not None:
            await _answer(send, 200, body)
        elif scope["method"] == "POST" and scope["path"] == "/run":
            await _answer(send, 200, self._finish(await _body(receive)))
        elif scope["path"] == "/health":
            await _answer(send, 200, b"{}")
        else:
            await _answer(send, 404, b"{}")

    async def _run(self, body: bytes) -> bytes:
        fields = json.loads(body)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((fields, future))
        return _status_body(f"sync-{uuid.uuid4()}-u1", await future)

    def _finish(self, body: bytes) -> bytes:
        job_id = f"{uuid.uuid4()}-u1"
        self._status_bodies[job_id] = _status_body(job_id, json.loads(body)["input"])
        return json.dumps({"id": job_id, "status": "IN_QUEUE"}).encode()

    async def _consume(self) -> None:
        while True:
            fields, future = await self._queue.get()
            if not future.done():
                future.set_result(fields["input"])

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._consumer = asyncio.get_running_loop().create_task(self._consume())
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._consumer is not None:
                    self._consumer.cancel()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _status_body(job_id: str, output: Any) -> bytes:
    fields = {
        "delayTime": 0,
        "executionTime": 0,
        "id": job_id,
        "output": output,
        "status": "COMPLETED",
        "workerId": "z3jr9rv2k3tt2y",
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        body += chunk
        if not message.get("more_body", False):
            return body


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(
        BareApp(), host="127.0.0.1", port=parser.parse_args().port, log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main()
