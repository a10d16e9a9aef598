"""A call as the journal keeps it, with secrets masked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from emulator.history.journal import Entry, EntryKind
from emulator.masking import masked_body, masked_headers, masked_query, masked_text

if TYPE_CHECKING:
    from emulator.api.exchange import Call, Reply, StreamedReply

#: Of a body, what is kept.
_BODY_KEPT = 64 * 1024


class CallEntry(Entry):
    """A client's or a worker's call, and its answer."""

    __slots__ = (
        "_headers", "_job_id", "_request_size", "_response_size", "duration_ms", "kind", "method",
        "operation", "path", "query_string", "request_body", "response_body", "response_headers", "status",
    )  # fmt: skip

    def __init__(
        self,
        kind: EntryKind,
        endpoint_id: str,
        operation: str,
        call: Call,
        reply: Reply | StreamedReply | None,
        at_ms: int,
        duration_ms: float,
        fault_id: str | None,
    ) -> None:
        super().__init__(endpoint_id, at_ms, 0, fault_id)
        self.kind = kind
        self.operation = operation
        self.method = call.method
        self.path = call.path
        self.query_string = call.query_string
        # As one piece, and not the two dozen that they came as: a thousand calls are kept.
        self._headers = b"\n".join(call.headers) + b"\0" + b"\n".join(call.headers.values())
        self.request_body = call.body_read[:_BODY_KEPT]
        self._request_size = len(call.body_read)
        #: None when the connection ended without an answer.
        self.status = None if reply is None else reply.status
        self.response_headers = () if reply is None else reply.headers
        self.response_body = b"" if reply is None else reply.body[:_BODY_KEPT]
        self._response_size = 0 if reply is None else len(reply.body)
        #: Real ms from the call to its answer.
        self.duration_ms = duration_ms
        self._job_id = call.job_id
        size = 700 + len(self.path) + len(self.query_string) + len(self._headers) + len(self._job_id)
        for name, value in self.response_headers:
            size += 100 + len(name) + len(value)
        self.size = size + len(self.request_body) + len(self.response_body)

    @property
    def request_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the request."""
        names, _, values = self._headers.partition(b"\0")
        return list(zip(names.split(b"\n"), values.split(b"\n"), strict=False)) if names else []

    @property
    def job_id(self) -> str | None:
        """The job it is about: for a new one its id is in the answer."""
        if self._job_id:
            return self._job_id
        # A new job's id is in the answer alone.
        answer = _parsed(self.response_body) if b'"id"' in self.response_body else None
        return answer.get("id") if isinstance(answer, dict) else None

    def details(self) -> dict[str, Any]:
        """Request and answer, with secrets masked."""
        return {
            "operation": self.operation,
            "method": self.method,
            "path": self.path,
            "query": masked_query(self.query_string),
            "status": self.status,
            "duration_ms": round(self.duration_ms, 3),
            "request": {
                "headers": masked_headers(self.request_headers),
                **_shown_body(self.request_body, self._request_size),
            },
            "response": {
                "headers": masked_headers(self.response_headers),
                **_shown_body(self.response_body, self._response_size),
            },
        }

    def news(self) -> dict[str, Any]:
        """The call without its headers and bodies."""
        return {
            **self.outline(),
            "operation": self.operation,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "duration_ms": round(self.duration_ms, 3),
        }

    def line(self) -> str:
        """Method, path and status."""
        status = "no answer" if self.status is None else self.status
        return f"{self.method} {self.path} → {status}"


def _shown_body(body: bytes, size: int) -> dict[str, Any]:
    if size > len(body):
        return {"body": masked_text(body), "size": size, "truncated": True}
    return {"body": masked_body(body), "size": size}


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
