"""The door to the endpoints: finds the operation of a request, checks it in production's order, answers.

It stands in front of FastAPI's own routing, whose cost per request is above that of a whole job here
(docs/benchmarks.md); the operations are in the same OpenAPI document as everything else.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from emulator.api.call_entry import CallEntry
from emulator.api.call_faults import ordered_reply, reset_connection, strike_call, truncated
from emulator.api.durability import Durability
from emulator.api.errors import INTERNAL_ERROR, error_reply, reply_to
from emulator.api.exchange import Call, ClientGone, ListeningSoon, Reply, StreamedReply
from emulator.api.openai.errors import in_openai_form
from emulator.api.operations import OPERATIONS, Operation
from emulator.api.rate_limits import TooManyRequests
from emulator.api.refused_workers import RefusedWorkers
from emulator.api.worker_protocol import WORKER_CALLS, answer_worker
from emulator.clock.real_time import real_seconds
from emulator.errors import EmulatorError
from emulator.history.journal import EntryKind
from emulator.history.quick_log import quick_log
from emulator.scenario.fault_rule import Point
from emulator.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Message, Receive, Scope, Send

    from emulator.api.auth import Access
    from emulator.api.control.controls import Controls
    from emulator.api.rate_limits import RateLimits
    from emulator.clock.clock import Clock
    from emulator.core.endpoint import Endpoint
    from emulator.scenario.fault_rule import FaultRule

log = logging.getLogger("emulator.api")

_SERVED_BY = (b"x-emulator", f"runpod-emulator/{__version__}".encode())
#: Operations of production's that are to come.
_NOT_EMULATED = frozenset({"batch"})
_JSON = (b"content-type", b"application/json")
#: The head of most replies.
_OK = (
    b"HTTP/1.1 200 OK\r\ndate: %b\r\n%b: %b\r\n%b: %b\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n"
)
#: Puts head and body of a reply on the wire (`serving/gathering.py`); False when it has not.
Answer: TypeAlias = Callable[[bytes, bytes], bool]
#: Statuses whose replies HTTP allows no body.
_BODILESS = (204, 304)


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
        controls: Controls,
        default_endpoint_id: str,
        access: Access,
        rate_limits: RateLimits,
        reply_headers: ReplyHeaders,
    ) -> None:
        self._endpoints = controls.endpoints
        self._scenarios = controls.scenarios
        self._faults = controls.faults
        self._default_endpoint_id = default_endpoint_id
        self._access = access
        self._rate_limits = rate_limits
        self._reply_headers = reply_headers
        self._journal = controls.journal
        self._waits = controls.waits
        self._refused_workers = RefusedWorkers()
        self._listening_soon = ListeningSoon()
        self._durability = Durability(controls.state)
        self._is_durable = controls.state is not None

    @staticmethod
    def serves(path: str) -> bool:
        """Whether the path is one of the endpoint API."""
        name = path[1:].partition("/")[0]
        return path.startswith("/v2/") or name in OPERATIONS or name in WORKER_CALLS

    @staticmethod
    def serves_clients(path: str) -> bool:
        """Whether the path is one that clients call: no worker's, and none of the control API."""
        parts = path.split("/")[1:]
        name = parts[2] if parts[0] == "v2" and len(parts) > 2 else parts[0]
        return name in OPERATIONS

    async def serve(
        self,
        path: str,
        headers: dict[bytes, bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
        answer: Answer | None,
    ) -> None:
        """Answer one request to a path of the endpoint API; at once by `answer`, if nobody is to see what is
        sent.
        """
        _, *parts = path.split("/")
        endpoint_id = self._default_endpoint_id
        if parts[0] == "v2":
            _, endpoint_id, *parts = parts
        name, job_id = (*parts, "", "")[:2]
        call = Call(scope, receive, headers, path, job_id, self._listening_soon)
        by_worker = name in WORKER_CALLS
        if by_worker and call.connection is not None:
            call.connection.by_worker = True
        endpoint = self._endpoints.get(endpoint_id)
        at_ms, began_s = 0 if endpoint is None else endpoint.clock.now_ms(), real_seconds()
        reply: Reply | StreamedReply | None = None
        rule: FaultRule | None = None
        try:
            if self._faults.in_force and endpoint is not None and self._faults.any_at(Point.CALL):
                effects = self._scenarios[endpoint].effects
                rule = await strike_call(call, effects, name, by_worker=by_worker)
                if rule is not None:
                    reply = await ordered_reply(rule, call, endpoint, self._waits)
            if rule is not None and rule.value == "reset":
                await reset_connection(call)
            elif reply is None and by_worker:
                reply = await self._answer_worker(call, endpoint_id, name, parts[1:])
            elif reply is None:
                reply = await self._answer(call, endpoint_id, name, len(parts))
        except ClientGone:
            pass
        except Exception as error:
            if rule is not None and isinstance(error, ConnectionResetError):
                raise
            log.exception("%s %s failed", call.method, path)
            reply = error_reply(500, INTERNAL_ERROR)
        if name == "openai" and isinstance(reply, Reply):
            reply = in_openai_form(reply)
        if rule is not None and rule.value == "truncate":
            answer = None
            send = partial(_send_truncated, call, send)
        hung_up = reply is None and rule is None
        if isinstance(reply, StreamedReply):
            # What it was is known when it has been sent.
            hung_up = not await self._stream(reply, call, send)
        level = _level(reply, rule, by_worker=by_worker)
        if log.isEnabledFor(level):
            outcome = "the client hung up" if hung_up else _outcome(reply)
            quick_log(log, level, f"{call.method} {path} → {outcome}")
        if endpoint is not None and self._journal.limit and not (by_worker and _is_idle(name, reply)):
            kind = EntryKind.WORKER if by_worker else EntryKind.API
            took_ms = (real_seconds() - began_s) * 1000
            fault_id = None if rule is None else rule.id
            self._journal.add(CallEntry(kind, endpoint_id, name, call, reply, at_ms, took_ms, fault_id))
        if isinstance(reply, Reply) and not (answer and self._is_answered(reply, answer)):
            await self.send(reply, send)

    def _is_answered(self, reply: Reply, answer: Answer) -> bool:
        """Whether a reply has been put on the wire at once, as a server of ours can do with most."""
        if reply.status != 200 or reply.headers:
            return False
        (_, date), (name, served_by), (id_name, request_id) = self._reply_headers()
        body = reply.body
        head = _OK % (date, name, served_by, id_name, request_id, len(body))
        return answer(head, body)

    async def send(self, reply: Reply, send: Send) -> None:
        """Put a reply on the wire."""
        headers = self._reply_headers()
        body = b""
        if reply.status not in _BODILESS:
            body = reply.body
            headers += (_JSON, (b"content-length", b"%d" % len(body)))
        headers += reply.headers
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, reply: StreamedReply, call: Call, send: Send) -> bool:
        """Send an answer as it comes; False when the client has hung up before its end."""
        try:
            await call.while_connected(reply.send(send, self._reply_headers()), listen_at_once=True)
        except ClientGone:
            return False
        except Exception:
            log.exception("%s %s failed", call.method, call.path)
            if call.connection is not None:
                call.connection.abort()
        return True

    async def _answer(
        self, call: Call, endpoint_id: str, name: str, path_length: int
    ) -> Reply | StreamedReply:
        operation = OPERATIONS.get(name)
        # Production says whether there is such an endpoint before it asks for a key (wire.md 1).
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            return self._no_such_endpoint(endpoint_id)
        if refusal := self._access.refusal(call.headers.get(b"authorization")):
            return error_reply(401, refusal)
        if operation is None or not (operation.any_path or path_length == 1 + operation.names_job):
            return error_reply(404, f"no such operation: {call.path[:200]!r}: {_what_there_is(call.path)}")
        if call.method not in operation.methods:
            return _wrong_method(call, operation.methods)
        if operation.limit is None:
            return await self._attempt(name, call, endpoint, operation)
        try:
            meter = self._rate_limits.admit(endpoint, operation.limit)
        except TooManyRequests as error:
            return error_reply(429, str(error), ((b"retry-after", b"%d" % error.retry_after_s),))
        try:
            reply = await self._attempt(name, call, endpoint, operation)
        except BaseException:
            meter.leave()
            raise
        if isinstance(reply, StreamedReply):
            # It counts until its last event.
            reply.on_end.append(meter.leave)
        else:
            meter.leave()
        return reply

    async def _attempt(
        self, name: str, call: Call, endpoint: Endpoint, operation: Operation
    ) -> Reply | StreamedReply:
        try:
            if not self._is_durable:
                return await operation.answer(call, endpoint)
            await self._durability.before(name)
            reply = await operation.answer(call, endpoint)
            await self._durability.after(name, call, endpoint)
        except ClientGone:
            raise
        except EmulatorError as error:
            return reply_to(error)
        return reply

    async def _answer_worker(self, call: Call, endpoint_id: str, name: str, ids: list[str]) -> Reply:
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            return await self._refused_workers.refuse(call, self._no_such_endpoint(endpoint_id))
        return await answer_worker(
            name, ids, call, endpoint, self._access, self._refused_workers, self._durability
        )

    def _no_such_endpoint(self, endpoint_id: str) -> Reply:
        known = ", ".join(self._endpoints)
        return error_reply(404, f"endpoint not found: {endpoint_id[:100]!r}: this emulator serves {known}")


async def _send_truncated(call: Call, send: Send, message: Message) -> None:
    if message["type"] == "http.response.body":
        await truncated(message, call, send)
    else:
        await send(message)


def _level(reply: Reply | StreamedReply | None, rule: FaultRule | None, *, by_worker: bool) -> int:
    if by_worker:
        return logging.DEBUG
    # What was ordered is no news.
    refused = reply is not None and reply.status >= 400 and rule is None
    return logging.WARNING if refused else logging.INFO


def _outcome(reply: Reply | StreamedReply | None) -> str:
    if reply is None:
        return "no answer"
    reason = reply.reason if isinstance(reply, Reply) else ""
    return f"{reply.status}: {reason}" if reason else str(reply.status)


def _is_idle(name: str, reply: Reply | StreamedReply | None) -> bool:
    """Whether a worker's call is one of the many that bring nothing."""
    return name == "ping" or reply is None or reply.status == 204


def _wrong_method(call: Call, methods: Iterable[str]) -> Reply:
    allowed = ", ".join(methods)
    return error_reply(
        405, f"{call.method} is not allowed here: use {allowed}", ((b"allow", allowed.encode()),)
    )


def _what_there_is(path: str) -> str:
    if not _NOT_EMULATED.isdisjoint(path.split("/")):
        return "this version does not emulate it yet"
    return "there is " + ", ".join(
        f"/{name}" + "/{id}" * operation.names_job + "/…" * operation.any_path
        for name, operation in OPERATIONS.items()
    )
