"""Web pages of other sites that may call the endpoint API, because their origin was allowed (CORS)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from emulator.api.exchange import Reply
from emulator.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from starlette.types import Message, Send

#: For how long a browser need not ask again, s.
_PREFLIGHT_MAX_AGE_S = 600
#: What a page may read of an answer beside its body.
_EXPOSED = b"retry-after, x-emulator, x-emulator-request-id, x-emulator-hint"
#: What a browser says of a page; of one that is allowed nobody else need judge it.
_PAGE_HEADERS = (b"origin", b"sec-fetch-site")


class Origins:
    """The origins that are allowed; none unless they are named.

    :raises ConfigError: one is not the origin of a page.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._allowed = frozenset(_checked(origin).encode() for origin in origins)

    def allows(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request comes from such a page."""
        return bool(self._allowed) and headers.get(b"origin") in self._allowed

    @staticmethod
    def without_page(headers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """The headers of its request, as if no page had sent it."""
        return {name: value for name, value in headers.items() if name not in _PAGE_HEADERS}

    @staticmethod
    def preflight(method: str, headers: Mapping[bytes, bytes]) -> Reply | None:
        """The answer to a browser that asks whether the page may; None when this is the call itself."""
        if method != "OPTIONS" or b"access-control-request-method" not in headers:
            return None
        allowed = headers.get(b"access-control-request-headers", b"authorization, content-type")
        return Reply(
            204,
            b"",
            (
                (b"access-control-allow-methods", b"GET, POST"),
                (b"access-control-allow-headers", allowed),
                (b"access-control-max-age", b"%d" % _PREFLIGHT_MAX_AGE_S),
            ),
        )

    @staticmethod
    def telling(headers: Mapping[bytes, bytes], send: Send) -> Send:
        """Sends with the headers by which the browser lets the page have the answer."""
        told = [
            (b"access-control-allow-origin", headers[b"origin"]),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *told]}
            await send(message)

        return send_told


def _checked(origin: str) -> str:
    try:
        parts = urlsplit(origin)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_one = False
    if not is_one or origin.lower() != f"{parts.scheme}://{parts.netloc}".lower() or "@" in origin:
        raise ConfigError(
            f"allow_origin is {origin[:200]!r}: it must be the origin of a page, like https://app.localhost:3000"
            " (no path, no *)"
        )
    return origin.lower()
