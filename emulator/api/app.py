"""The ASGI application: the endpoint API, the control API, and their documentation."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from emulator.api.auth import is_control
from emulator.api.console_page import DOCS_WITH_KEY, PAGE_HEADERS, add_console
from emulator.api.control import control_router
from emulator.api.control.body_limit import BODY_MAX_MIB, ControlBody
from emulator.api.control.controls import ControlError, refusal_of
from emulator.api.dispatch import Dispatch, ReplyHeaders
from emulator.api.docs_page import docs_page
from emulator.api.durability import Durability
from emulator.api.errors import INTERNAL_ERROR, error_body, error_reply
from emulator.api.exchange import Reply
from emulator.api.openai.errors import is_openai_path, openai_error
from emulator.api.openapi import describe_operations
from emulator.errors import EmulatorError
from emulator.scenario.order import told
from emulator.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Lifespan, Message, Receive, Scope, Send

    from emulator.api.auth import Access, BrowserGuard
    from emulator.api.control.controls import Controls
    from emulator.api.origins import Origins
    from emulator.api.rate_limits import RateLimits


log = logging.getLogger("emulator.api")

_DOCS = "/_emulator/docs"
_ALWAYS_SERVED = frozenset({"/_emulator/health", "/_emulator/ready"})


class EmulatorApp(FastAPI):
    """A FastAPI application whose endpoint operations are served before its own routing."""

    def __init__(
        self,
        *,
        default_endpoint_id: str,
        access: Access,
        guard: BrowserGuard,
        origins: Origins,
        rate_limits: RateLimits,
        controls: Controls,
        lifespan: Lifespan[FastAPI],
    ) -> None:
        super().__init__(
            title="runpod-emulator",
            version=__version__,
            description="A local emulator of the Runpod Serverless endpoint API.",
            lifespan=lifespan,
            docs_url=None,
            redoc_url=None,
            openapi_url="/_emulator/openapi.json",
            # What does not say what it is, is JSON; pages are kept out by BrowserGuard.
            strict_content_type=False,
        )
        self._controls = controls
        self._guard = guard
        self._origins = origins
        self._access = access
        self._reply_headers = ReplyHeaders(controls.clock)
        self._dispatch = Dispatch(controls, default_endpoint_id, access, rate_limits, self._reply_headers)
        self._durability = Durability(controls.state)
        self._described: dict[str, Any] | None = None
        self._default_endpoint_id = default_endpoint_id
        self.include_router(control_router(controls))
        self.add_api_route(_DOCS, self._docs, include_in_schema=False)
        add_console(self)
        self.add_exception_handler(HTTPException, _on_http_exception)
        self.add_exception_handler(RequestValidationError, _on_validation_error)
        self.add_exception_handler(ControlError, _on_control_error)
        self.add_exception_handler(EmulatorError, _on_emulator_error)
        self.add_exception_handler(Exception, _on_unexpected)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self._origins.allows(headers) and self._dispatch.serves_clients(path):
            send = self._origins.telling(headers, send)
            scope.pop("emulator.answer", None)
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
            if path == _DOCS and b"text/html" in headers.get(b"accept", b""):
                # A browser cannot send a key when it opens a page.
                reply = Reply(303, b"", ((b"location", DOCS_WITH_KEY.encode()),))
            else:
                log.warning("%s %s → 401: %s", scope["method"], path, refusal)
                reply = _refusal(path, 401, "unauthorized", refusal)
            await self._dispatch.send(reply, send)
        elif reasons := self._not_ready(path):
            await self._dispatch.send(_refusal(path, 503, "not_running", "; ".join(reasons)), send)
        elif self._dispatch.serves(path):
            await self._dispatch.serve(path, headers, scope, receive, send)
        else:
            send = self._durability.of_control(scope["method"], send)
            await self._serve_control(_as_json(scope), headers, receive, self._with_headers(send))

    async def _serve_control(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        body = ControlBody(receive)
        if body.is_too_large(headers):
            detail = f"the body is larger than {BODY_MAX_MIB} MiB"
            await self._dispatch.send(_refusal(scope["path"], 413, "too_large", detail), send)
            return
        await super().__call__(scope, body.receive, send)
        body.forget()

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of everything that is served."""
        if self._described is None:
            self._described = describe_operations(super().openapi())
        return self._described

    async def _docs(self, request: Request) -> HTMLResponse:
        base_url = str(request.base_url).rstrip("/")
        page = docs_page(self.openapi(), base_url, self._default_endpoint_id)
        return HTMLResponse(page, headers={name.decode(): value.decode() for name, value in PAGE_HEADERS})

    def _not_ready(self, path: str) -> list[str]:
        """Why the path cannot be served now; whether the emulator is ready can always be asked."""
        return [] if path in _ALWAYS_SERVED else self._controls.not_ready()

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*self._reply_headers(), *message["headers"]]
            await send(message)

        return send_with_headers


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


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        detail = f"nothing is served at {request.url.path[:200]!r}"
        detail += "" if is_control(request.url.path) else ": see /_emulator/docs"
    else:
        detail = str(error.detail)
    if is_control(request.url.path):
        code = "not_found" if error.status_code == 404 else "not_allowed"
        return _control_error(ControlError(error.status_code, code, detail), error.headers)
    return Response(
        error_body(error.status_code, detail),
        error.status_code,
        media_type="application/json",
        headers=error.headers,
    )


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if errors[0]["type"] == "json_invalid":
        return _control_error(ControlError(400, "invalid_request", "body: not valid JSON"))
    body = request.scope["route"].body_field
    model = None if body is None else body.field_info.annotation
    return _control_error(ControlError(400, "invalid_request", told(errors, model)))


async def _on_control_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ControlError)
    return _control_error(error)


async def _on_emulator_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, EmulatorError)
    return _control_error(refusal_of(error))


async def _on_unexpected(_: Request, error: Exception) -> Response:
    return Response(error_body(500, INTERNAL_ERROR), 500, media_type="application/json")


def _control_error(error: ControlError, headers: Mapping[str, str] | None = None) -> Response:
    return Response(error.body(), error.status, media_type="application/json", headers=headers)
