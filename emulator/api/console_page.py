"""The console's files: a page that is a client of the two APIs. They hold no data: anybody may have them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from emulator.api.auth import CONSOLE_PATH

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Message, Receive, Scope, Send

_FOLDER = Path(__file__).parents[1] / "console"
#: Nothing but what is served here is run or asked for; media may be shown from services of this machine.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data: blob: http://127.0.0.1:* http://localhost:*",
        "media-src 'self' data: blob: http://127.0.0.1:* http://localhost:*",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
#: Of every page, and of what it loads.
PAGE_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    # It is asked each time whether a file has changed: it does with the emulator's version.
    (b"cache-control", b"no-cache"),
]


def add_console(app: FastAPI) -> None:
    """Serve the console at `/` and at `/_emulator/ui`."""
    files = _Files(directory=_FOLDER, html=True)
    app.mount(CONSOLE_PATH, files)

    async def to_console() -> RedirectResponse:
        return RedirectResponse(f"{CONSOLE_PATH}/")

    for path in ("/", "/_emulator"):
        app.add_api_route(path, to_console, include_in_schema=False)


class _Files(StaticFiles):
    """Files under a strict policy."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *PAGE_HEADERS]
            await send(message)

        await super().__call__(scope, receive, send_with_policy)
