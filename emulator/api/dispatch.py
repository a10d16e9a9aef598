"""The door to the endpoints: finds the operation of a request, checks it in production's order, answers.

It stands in front of FastAPI's own routing, whose cost per request is above that of a whole job here
(docs/benchmarks.md); the operations are in the same OpenAPI document as everything else.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from email.utils import formatdate
from typing import TYPE_CHECKING

from emulator.api.errors import INTERNAL_ERROR, error_reply, reply_to
from emulator.api.exchange import Call, ClientGone, Reply
from emulator.api.operations import OPERATIONS, Operation
from emulator.api.rate_limits import TooManyRequests
from emulator.api.worker_protocol import WORKER_CALLS, answer_worker
from emulator.core.errors import EmulatorError
from emulator.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import Receive, Scope, Send

    from emulator.api.auth import Access
    from emulator.api.rate_limits import RateLimits
    from emulator.core.clock import Clock
    from emulator.core.endpoint import Endpoint

log = logging.getLogger("emulator.api")

_SERVED_BY = (b"x-emulator", f"runpod-emulator/{__version__}".encode())
#: Operations of production's that are to come.
_NOT_EMULATED = frozenset({"batch", "openai"})
_JSON = (b"content-type", b"application/json")


class ReplyHeaders:
    """The headers that every reply carries: which program answered, which request it was, and when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._prefix = secrets.token_hex(4).encode()
        self._second = -1
        self._date = b""

    def __call__(self) -> list[tuple[bytes, bytes]]:
        """Headers for one more reply; the date is the emulated one."""
        second = self._clock.now_ms() // 1000
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode()
        return [
            (b"date", self._date),
            _SERVED_BY,
            (b"x-emulator-request-id", b"%b-%d" % (self._prefix, next(self._numbers))),
        ]


class Dispatch:
    """Serves `/v2/{endpoint_id}/{operation}[/{job_id}]`, and the operations at the root for one endpoint."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        default_endpoint_id: str,
        access: Access,
        rate_limits: RateLimits,
        reply_headers: ReplyHeaders,
    ) -> None:
        self._endpoints = endpoints
        self._default_endpoint_id = default_endpoint_id
        self._access = access
        self._rate_limits = rate_limits
        self._reply_headers = reply_headers

    @staticmethod
    def serves(path: str) -> bool:
        """Whether the path is one of the endpoint API."""
        name = path[1:].partition("/")[0]
        return path.startswith("/v2/") or name in OPERATIONS or name in WORKER_CALLS

    async def serve(
        self, path: str, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one request to a path of the endpoint API."""
        _, *parts = path.split("/")
        endpoint_id = self._default_endpoint_id
        if parts[0] == "v2":
            _, endpoint_id, *parts = parts
        name, job_id = (*parts, "", "")[:2]
        call = Call(scope, receive, headers, path, job_id)
        level = logging.INFO
        try:
            if name in WORKER_CALLS:
                level = logging.DEBUG
                reply = await self._answer_worker(call, endpoint_id, name, parts[1:])
            else:
                reply = await self._answer(call, endpoint_id, OPERATIONS.get(name), len(parts))
        except ClientGone:
            log.log(level, "%s %s → the client hung up", call.method, path)
            return
        except Exception:
            log.exception("%s %s failed", call.method, path)
            reply = error_reply(500, INTERNAL_ERROR)
        if log.isEnabledFor(level):
            log.log(level, "%s %s → %d", call.method, path, reply.status)
        await self.send(reply, send)

    async def send(self, reply: Reply, send: Send) -> None:
        """Put a reply on the wire."""
        headers = self._reply_headers()
        if reply.status != 204:
            headers += (_JSON, (b"content-length", b"%d" % len(reply.body)), *reply.headers)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(
        self, call: Call, endpoint_id: str, operation: Operation | None, path_length: int
    ) -> Reply:
        if refusal := self._access.refusal(call.headers.get(b"authorization")):
            return error_reply(401, refusal)
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            return self._no_such_endpoint(endpoint_id)
        if operation is None or path_length != 1 + operation.names_job:
            return error_reply(404, f"no such operation: {call.path[:200]!r}: {_what_there_is(call.path)}")
        if call.method not in operation.methods:
            return _wrong_method(call, operation.methods)
        if operation.limit is None:
            return await _attempt(call, endpoint, operation)
        try:
            meter = self._rate_limits.admit(endpoint, operation.limit)
        except TooManyRequests as error:
            return error_reply(429, str(error), ((b"retry-after", b"%d" % error.retry_after_s),))
        try:
            return await _attempt(call, endpoint, operation)
        finally:
            meter.leave()

    async def _answer_worker(self, call: Call, endpoint_id: str, name: str, ids: list[str]) -> Reply:
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            return self._no_such_endpoint(endpoint_id)
        return await answer_worker(name, ids, call, endpoint, self._access)

    def _no_such_endpoint(self, endpoint_id: str) -> Reply:
        known = ", ".join(self._endpoints)
        return error_reply(404, f"endpoint not found: {endpoint_id[:100]!r}: this emulator serves {known}")


async def _attempt(call: Call, endpoint: Endpoint, operation: Operation) -> Reply:
    try:
        return await operation.answer(call, endpoint)
    except ClientGone:
        raise
    except EmulatorError as error:
        return reply_to(error)


def _wrong_method(call: Call, methods: Iterable[str]) -> Reply:
    allowed = ", ".join(methods)
    return error_reply(
        405, f"{call.method} is not allowed here: use {allowed}", ((b"allow", allowed.encode()),)
    )


def _what_there_is(path: str) -> str:
    if not _NOT_EMULATED.isdisjoint(path.split("/")):
        return "this version does not emulate it yet"
    return "there is " + ", ".join(
        f"/{name}" + "/{id}" * operation.names_job for name, operation in OPERATIONS.items()
    )
