"""The ASGI application: who may call at all, then the endpoint API, then everything else."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

from emulator.api.auth import DOCS_PATH, DOCS_WITH_KEY, is_control
from emulator.api.control.controls import CONTROLS, ControlError
from emulator.api.dispatch import Dispatch, ReplyHeaders
from emulator.api.durability import Durability
from emulator.api.errors import error_reply
from emulator.api.exchange import Reply
from emulator.api.openai.errors import is_openai_path, openai_error

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Lifespan, Message, Receive, Scope, Send

    from emulator.api.auth import Access, BrowserGuard
    from emulator.api.control.controls import Controls
    from emulator.api.origins import Origins
    from emulator.api.rate_limits import RateLimits

log = logging.getLogger("emulator.api")

_CONTROL_MODULE = "emulator.api.control.app"
_ALWAYS_SERVED = frozenset({"/_emulator/health", "/_emulator/ready"})


class EmulatorApp:
    """Serves the endpoint operations itself; what is no endpoint's goes to a FastAPI application.

    That one is imported when it is first asked for something: it takes longer than all the rest of a start,
    and a handler's author may never ask it for anything.
    """

    def __init__(
        self,
        *,
        default_endpoint_id: str,
        access: Access,
        guard: BrowserGuard,
        origins: Origins,
        rate_limits: RateLimits,
        controls: Controls,
        lifespan: Lifespan[Any],
    ) -> None:
        self._controls = controls
        self._guard = guard
        self._origins = origins
        self._access = access
        self._lifespan = lifespan
        self._reply_headers = ReplyHeaders(controls.clock)
        self._dispatch = Dispatch(controls, default_endpoint_id, access, rate_limits, self._reply_headers)
        self._durability = Durability(controls.state)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] == "lifespan":
            from starlette.routing import Router

            await Router(lifespan=self._lifespan)(scope, receive, send)
            return
        if scope["type"] != "http":
            await control_app()(scope, receive, send)
            return
        # Taken out: it holds what holds the scope, and would leave a circle with every request.
        answer = scope.pop("emulator.answer", None)
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self._origins.allows(headers) and self._dispatch.serves_clients(path):
            send = self._origins.telling(headers, send)
            answer = None
            preflight = self._origins.preflight(scope["method"], headers)
            headers = self._origins.without_page(headers)
        else:
            preflight = None
        if refusal := self._guard.refusal(scope["method"], path, headers):
            log.warning("%s %s → 403: %s", scope["method"], path, refusal)
            await self._dispatch.send(_refusal(path, 403, "forbidden", refusal), send)
        elif preflight is not None:
            await self._dispatch.send(preflight, send)
        elif is_control(path) and (refusal := self._access.control_refusal(path, headers)):
            if path == DOCS_PATH and b"text/html" in headers.get(b"accept", b""):
                # A browser cannot send a key when it opens a page.
                reply = Reply(303, b"", ((b"location", DOCS_WITH_KEY.encode()),))
            else:
                log.warning("%s %s → 401: %s", scope["method"], path, refusal)
                reply = _refusal(path, 401, "unauthorized", refusal)
            await self._dispatch.send(reply, send)
        elif reasons := self._not_ready(path):
            await self._dispatch.send(_refusal(path, 503, "not_running", "; ".join(reasons)), send)
        elif self._dispatch.serves(path):
            await self._dispatch.serve(path, headers, scope, receive, send, answer)
        else:
            send = self._durability.of_control(scope["method"], send)
            if _CONTROL_MODULE not in sys.modules:
                # To import it takes a third of a second, in which others are served.
                await asyncio.to_thread(control_app)
            scope = {**_as_json(scope), CONTROLS: self._controls}
            await control_app()(scope, receive, self._with_headers(send))

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of everything that is served."""
        return control_app().openapi()

    def _not_ready(self, path: str) -> list[str]:
        """Why the path cannot be served now; whether the emulator is ready can always be asked."""
        return [] if path in _ALWAYS_SERVED else self._controls.not_ready()

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*self._reply_headers(), *message["headers"]]
            await send(message)

        return send_with_headers


def control_app() -> FastAPI:
    """What serves everything that is no endpoint's."""
    from emulator.api.control.app import CONTROL_APP

    return CONTROL_APP


def _as_json(scope: Scope) -> Scope:
    """The request without its content type: `curl -d '{"by_ms": 1000}'` says that it sends a form."""
    return {**scope, "headers": [header for header in scope["headers"] if header[0] != b"content-type"]}


def _refusal(path: str, status: int, code: str, detail: str) -> Reply:
    """An error in the form of the API that was asked."""
    if is_control(path):
        return Reply(status, ControlError(status, code, detail).body())
    if is_openai_path(path):
        return openai_error(status, detail)
    return error_reply(status, detail)
