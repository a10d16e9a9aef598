"""The application of the control API, the console and the documentation: all that is no endpoint's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from emulator.api.auth import DOCS_PATH, is_control
from emulator.api.console_page import PAGE_HEADERS, add_console
from emulator.api.control import (
    basics,
    endpoints,
    events,
    history,
    jobs,
    metrics,
    orders,
    s3,
    state,
    time,
    workers,
)
from emulator.api.control.bodies import ControlErrorBody
from emulator.api.control.body_limit import TOO_LARGE, ControlBody
from emulator.api.control.controls import ControlError, refusal_of
from emulator.api.control.given import Given
from emulator.api.docs_page import docs_page
from emulator.api.errors import INTERNAL_ERROR, error_body
from emulator.api.openapi import describe_operations
from emulator.errors import EmulatorError
from emulator.scenario.order import told
from emulator.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ControlErrorBody},
    401: {"model": ControlErrorBody},
    403: {"model": ControlErrorBody},
    404: {"model": ControlErrorBody},
}


_CODES = {404: "not_found", 413: "too_large"}


class _ControlApp(FastAPI):
    """Everything under `/_emulator`, and the console. A request's scope has the emulator's `Controls`."""

    def __init__(self) -> None:
        super().__init__(
            title="runpod-emulator",
            version=__version__,
            description="A local emulator of the Runpod Serverless endpoint API.",
            docs_url=None,
            redoc_url=None,
            openapi_url="/_emulator/openapi.json",
            # What does not say what it is, is JSON; pages are kept out by BrowserGuard.
            strict_content_type=False,
        )
        self._described: dict[str, Any] | None = None
        # Calls that change something answer once the change is visible.
        control = APIRouter(prefix="/_emulator", tags=["control"], responses=_REFUSALS)
        for part in (
            basics, time, endpoints, jobs, workers, orders, history, events, metrics, s3, state,
        ):  # fmt: skip
            control.include_router(part.router)
        self.include_router(control)
        self.add_api_route(DOCS_PATH, self._docs, include_in_schema=False)
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
        body = ControlBody(receive)
        if body.is_too_large(scope["headers"]):
            reply = await _on_http_exception(Request(scope), HTTPException(413, TOO_LARGE))
            await reply(scope, receive, send)
            return
        await super().__call__(scope, body.receive, send)
        body.forget()

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of everything that is served."""
        if self._described is None:
            self._described = describe_operations(super().openapi())
        return self._described

    async def _docs(self, request: Request, controls: Given) -> HTMLResponse:
        base_url = str(request.base_url).rstrip("/")
        page = docs_page(self.openapi(), base_url, next(iter(controls.endpoints)))
        return HTMLResponse(page, headers={name.decode(): value.decode() for name, value in PAGE_HEADERS})


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        detail = f"nothing is served at {request.url.path[:200]!r}"
        detail += "" if is_control(request.url.path) else ": see /_emulator/docs"
    else:
        detail = str(error.detail)
    if is_control(request.url.path):
        code = _CODES.get(error.status_code, "not_allowed")
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


#: For all emulators of a process: the framework keeps for good whatever a route is made of.
CONTROL_APP = _ControlApp()
