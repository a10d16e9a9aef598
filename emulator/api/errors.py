"""Errors as production words them: one envelope for all (wire.md 1)."""

from __future__ import annotations

from http import HTTPStatus

from emulator.api.exchange import Reply
from emulator.core.json_text import encode
from emulator.errors import (
    BodyTooLarge,
    EmulatorError,
    EndpointNotFound,
    InvalidRequest,
    JobNotFound,
    MalformedRequest,
    NotKept,
    NotRetryable,
)

#: What each error of the core is on the wire.
_STATUS_OF: dict[type[EmulatorError], int] = {
    InvalidRequest: 400,
    MalformedRequest: 400,
    BodyTooLarge: 400,
    NotRetryable: 400,
    EndpointNotFound: 404,
    JobNotFound: 404,
    NotKept: 500,
}

INTERNAL_ERROR = "internal error: this is a bug of the emulator; the traceback is in its log"


def error_body(status: int, detail: str) -> bytes:
    """The envelope: `status`, `title`, `detail`, and as `error`, which many clients read, the same again."""
    return encode({"status": status, "title": phrase(status), "detail": detail, "error": detail})


def phrase(status: int) -> str:
    """What a status code is called."""
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else f"Status {status}"


def error_reply(status: int, detail: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    """An error answer; `detail` says what was wrong and what to do."""
    return Reply(status, error_body(status, detail), headers, reason=detail)


def reply_to(error: EmulatorError) -> Reply:
    """The answer to a request that the core refused."""
    return error_reply(_STATUS_OF[type(error)], str(error))
