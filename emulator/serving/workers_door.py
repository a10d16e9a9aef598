"""A second way in, for the workers that were started elsewhere than on this machine's loopback: it lets them
alone in, each by its own secret, so that it may be open to a network while the API is not.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from emulator.errors import ConfigError
from emulator.serving.server import HTTPServer, listen

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

#: The calls of workers, and only those (wire.md 7).
_CALL = re.compile(
    r"/v2/[^/]+/(?:job-take|job-take-batch|job-stop|job-stream|job-done|ping)/([^/]+)(?:/[^/]+)?"
)
_REFUSAL = b'{"error":"this door is for the workers of the emulator alone"}'


class WorkersDoor:
    """Serves the app to workers that prove that they were started here, on addresses of this machine.

    :param is_ours: whether a secret is that of the worker with an id.
    """

    def __init__(self, app: ASGIApp, is_ours: Callable[[str, str], bool]) -> None:
        self._app = app
        self._is_ours = is_ours
        self._servers: list[HTTPServer] = []
        #: The port that is listened on, by the address and the port that were asked for.
        self._ports: dict[tuple[str, int], int] = {}

    async def open(self, host: str, port: int = 0) -> int:
        """Listen on an address too, unless that is so already; returns the port (0 asks for any).

        :raises ConfigError: the address cannot be bound.
        """
        if (host, port) not in self._ports:
            listener = listen(host, port)
            server = HTTPServer(self, listener)
            await server.start()
            self._servers.append(server)
            self._ports[host, port] = listener.getsockname()[1]
        return self._ports[host, port]

    async def close(self, patience_s: float) -> None:
        """Listen no more; requests get `patience_s` real seconds."""
        servers, self._servers = self._servers, []
        self._ports.clear()
        for server in servers:
            await server.stop(patience_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the call of a worker on, and refuse any other."""
        call = _CALL.fullmatch(scope["path"])
        secret = parse_qs(scope["query_string"].decode("latin-1")).get("secret", [""])[0]
        if call is not None and self._is_ours(call[1], secret):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": _REFUSAL})


async def open_as(door: WorkersDoor, address: str) -> str:
    """Open the door at `HOST` or `HOST:PORT`; returns the URL that stands for it.

    A name or address that is not this machine's own (that of a router before it, or of a service in a compose
    file) is called so by workers, and all of this machine's addresses are listened on.

    :raises ConfigError: it cannot be opened.
    """
    host, port = _parts(address)
    bare = host.strip("[]")
    try:
        port = await door.open(bare, port)
    except ConfigError as error:
        if getattr(error.__cause__, "errno", None) != errno.EADDRNOTAVAIL:
            raise ConfigError(f"worker_address is {address!r}: {error}") from None
        port = await door.open("0.0.0.0", port)
    return f"http://{host}:{port}"


def _parts(address: str) -> tuple[str, int]:
    parts = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:/\s]+)(?::(\d{1,5}))?", address)
    if parts is None or int(parts[2] or 0) > 65535:
        raise ConfigError(f"worker_address is {address!r}: it must be HOST or HOST:PORT")
    return parts[1], int(parts[2] or 0)
