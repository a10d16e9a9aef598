"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import ast
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from emulator.api.exchange import Reply
from emulator.core.job import JobStatus
from emulator.core.json_text import encode

if TYPE_CHECKING:
    from emulator.core.job import Job

#: `type` and `code` of what is refused here, as OpenAI words them.
_WORDS = {
    400: ("invalid_request_error", "bad_request"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "forbidden"),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    408: ("server_error", "timeout"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", "server_error"),
    503: ("server_error", "service_unavailable"),
}
#: Where a worker's error object has no number, its type tells (vLLM's and OpenAI's words).
_STATUS_OF_TYPE = {
    "badrequesterror": 400,
    "invalid_request_error": 400,
    "authenticationerror": 401,
    "authentication_error": 401,
    "permissiondeniederror": 403,
    "notfounderror": 404,
    "not_found_error": 404,
    "unprocessableentityerror": 422,
    "ratelimiterror": 429,
    "rate_limit_error": 429,
    "serviceunavailableerror": 503,
}

#: No error object is longer, characters.
_OBJECT_MAX = 64 * 1024


def is_openai_path(path: str) -> bool:
    """Whether a path is one of the OpenAI routes: at the root, or below `/v2/{endpoint_id}`."""
    parts = path.split("/", 4)
    return parts[1] == "openai" or (parts[1] == "v2" and len(parts) > 3 and parts[3] == "openai")


def openai_error(
    status: int,
    message: str,
    *,
    kind: str | None = None,
    code: str | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Reply:
    """An error answer; without `kind` and `code` they are what the status is called."""
    usual_kind, usual_code = _WORDS.get(
        status, ("server_error" if status >= 500 else "invalid_request_error", None)
    )
    error = {"message": message, "type": kind or usual_kind, "param": None, "code": code or usual_code}
    return Reply(status, encode({"error": error}), headers, reason=message)


def in_openai_form(reply: Reply) -> Reply:
    """An answer of the endpoint API as the OpenAI routes give it: its error envelope is another."""
    if reply.status < 400:
        return reply
    envelope = _parsed(reply.body)
    if not (isinstance(envelope, dict) and {"detail", "title"} <= envelope.keys()):
        return reply
    return openai_error(reply.status, str(envelope["detail"]), headers=reply.headers)


def reported_error(value: Any) -> Reply | None:
    """The answer to what a worker brought, if it is an error object; its own words stay as they are.

    Such an object is `{"error": {"message": …, "type": …, "code": 400}}`, or as older workers have it
    `{"object": "error", "message": …}`. The status is its code, or follows from its type.
    """
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if value.get("object") == "error":
        error = {key: value[key] for key in ("message", "type", "param", "code") if key in value}
    if isinstance(error, str) and error:
        return openai_error(500, error)
    if not isinstance(error, dict) or not error:
        return None
    status = _status_of(error)
    kind, code = _WORDS.get(status, ("server_error", None))
    filled = {"message": "the worker gave no message", "type": kind, "param": None, "code": code} | error
    return Reply(status, encode({"error": filled}), reason=str(filled["message"]))


def failure_of(job: Job) -> Reply:
    """The answer for a job that did not complete."""
    if job.status is JobStatus.TIMED_OUT:
        return openai_error(408, f"job {job.id} timed out: its ttl is over")
    if job.status is JobStatus.CANCELLED:
        # A status that clients do not try again: somebody wanted it to end.
        return openai_error(400, f"job {job.id} was cancelled", code="cancelled")
    # The SDK puts what a generator raised before its traceback.
    message = (job.error or "the job failed without an error").partition(" \ntraceback: ")[0]
    told = _told(message)
    if isinstance(told, dict):
        if "error_message" in told:
            # What the SDK makes of an exception (wire.md 3).
            return openai_error(500, str(told["error_message"]), code=str(told.get("error_type") or "error"))
        if (reply := reported_error({"error": told})) is not None:
            return reply
    return openai_error(500, message)


def _status_of(error: dict[str, Any]) -> int:
    for key in ("code", "status", "status_code"):
        code = error.get(key)
        if isinstance(code, str) and code.isascii() and code.isdigit():
            code = int(code)
        if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599:
            return code
    return _STATUS_OF_TYPE.get(str(error.get("type")).lower(), 500)


def _told(message: str) -> Any:
    """An error as its worker meant it: of an object that is yielded the SDK makes Python's text, not JSON."""
    told = _parsed(message.encode())
    if told is None and message.startswith("{") and len(message) < _OBJECT_MAX:
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            return ast.literal_eval(message)
    return told


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
