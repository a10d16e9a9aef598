"""The ASGI application: the endpoint API, the control API, and their documentation."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from emulator.api.control import control_router
from emulator.api.control.controls import ControlError, refusal_of
from emulator.api.dispatch import Dispatch, ReplyHeaders
from emulator.api.docs_page import docs_page
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
    from emulator.api.rate_limits import RateLimits


log = logging.getLogger("emulator.api")

_ALWAYS_SERVED = frozenset({"/_emulator/health", "/_emulator/ready"})


class EmulatorApp(FastAPI):
    """A FastAPI application whose endpoint operations are served before its own routing."""

    def __init__(
        self,
        *,
        default_endpoint_id: str,
        access: Access,
        guard: BrowserGuard,
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
        self._reply_headers = ReplyHeaders(controls.clock)
        self._dispatch = Dispatch(controls, default_endpoint_id, access, rate_limits, self._reply_headers)
        self._described: dict[str, Any] | None = None
        self._default_endpoint_id = default_endpoint_id
        self.include_router(control_router(controls))
        self.add_api_route("/_emulator/docs", self._docs, include_in_schema=False)
        for path in ("/", "/_emulator"):
            self.add_api_route(path, _to_docs, include_in_schema=False)
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
        if refusal := self._guard.refusal(headers):
            log.warning("%s %s → 403: %s", scope["method"], path, refusal)
            await self._dispatch.send(_refusal(path, 403, "forbidden", refusal), send)
        elif reasons := self._not_ready(path):
            await self._dispatch.send(_refusal(path, 503, "not_running", "; ".join(reasons)), send)
        elif self._dispatch.serves(path):
            await self._dispatch.serve(path, headers, scope, receive, send)
        else:
            await super().__call__(_as_json(scope), receive, self._with_headers(send))

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of everything that is served."""
        if self._described is None:
            self._described = describe_operations(super().openapi())
        return self._described

    async def _docs(self, request: Request) -> HTMLResponse:
        base_url = str(request.base_url).rstrip("/")
        return HTMLResponse(docs_page(self.openapi(), base_url, self._default_endpoint_id))

    def _not_ready(self, path: str) -> list[str]:
        """Why the path cannot be served now; whether the emulator is ready can always be asked."""
        return [] if path in _ALWAYS_SERVED else self._controls.not_ready()

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*self._reply_headers(), *message["headers"]]
            await send(message)

        return send_with_headers


def _is_control(path: str) -> bool:
    return path == "/_emulator" or path.startswith("/_emulator/")


def _as_json(scope: Scope) -> Scope:
    """The request without its content type: `curl -d '{"by_ms": 1000}'` says that it sends a form."""
    return {**scope, "headers": [header for header in scope["headers"] if header[0] != b"content-type"]}


def _refusal(path: str, status: int, code: str, detail: str) -> Reply:
    """An error in the form of the API that was asked."""
    if _is_control(path):
        return Reply(status, ControlError(status, code, detail).body())
    if is_openai_path(path):
        return openai_error(status, detail)
    return error_reply(status, detail)


async def _to_docs() -> RedirectResponse:
    return RedirectResponse("/_emulator/docs")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        detail = f"nothing is served at {request.url.path[:200]!r}"
        detail += "" if _is_control(request.url.path) else ": see /_emulator/docs"
    else:
        detail = str(error.detail)
    if _is_control(request.url.path):
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
