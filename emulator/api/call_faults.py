"""What ordered faults do to a call (docs/faults.md)."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from emulator.api.errors import error_reply, phrase
from emulator.api.exchange import Reply
from emulator.clock.real_time import next_round
from emulator.core.json_text import encode
from emulator.errors import EmulatorError, MalformedRequest
from emulator.scenario.fault_rule import Point

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from emulator.api.exchange import Call
    from emulator.api.waits import Waits
    from emulator.core.endpoint import Endpoint
    from emulator.scenario.fault_effects import FaultEffects
    from emulator.scenario.fault_rule import FaultRule

#: Larger than any body that an operation takes.
_BODY_MIB = 100
#: Close at once, without sending what is left: the other side is reset.
_NO_LINGER = struct.pack("ii", 1, 0)
#: The loop rounds from closing a connection to the server's knowing it.
_ROUNDS_TO_CLOSE = 5


async def strike_call(
    call: Call, effects: FaultEffects, operation: str, *, by_worker: bool
) -> FaultRule | None:
    """The fault that was ordered for a call, if one was. Without an operation a rule is for clients alone."""
    body = b""
    if call.method == "POST" and any(rule.input is not None for rule in effects.faults):
        try:
            body = await call.body(_BODY_MIB)
        except EmulatorError:
            return None

    def read_input() -> object:
        try:
            fields: Any = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return fields.get("input") if isinstance(fields, dict) else None

    return effects.strike(Point.CALL, read_input, operation=operation, only_named=by_worker)


async def ordered_reply(rule: FaultRule, call: Call, endpoint: Endpoint, waits: Waits) -> Reply | None:
    """The answer that a fault gives instead of the operation's; None when the call goes on."""
    if rule.effect == "latency_ms":
        if call.method == "POST":
            # Whoever listens for the end of the connection would lose it.
            with suppress(MalformedRequest):
                await call.body(_BODY_MIB)
        with endpoint.clock.waiting():
            await call.while_connected(waits.until(endpoint.clock.sleep(rule.value, "ordered latency")))
    if rule.effect != "status":
        return None
    headers = rule.more.get("headers") or {}
    lines = tuple((str(name).lower().encode(), str(value).encode()) for name, value in headers.items())
    if "body" in rule.more:
        body = rule.more["body"]
        return Reply(rule.value, body.encode() if isinstance(body, str) else encode(body), lines)
    return error_reply(rule.value, f"ordered: {phrase(rule.value)}", lines)


async def reset_connection(call: Call) -> None:
    """Cut the connection without a word.

    :raises ConnectionResetError: there is no connection to cut: the client is in this process.
    """
    if call.connection is None:
        raise ConnectionResetError("ordered: the connection is reset")
    call.connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    call.connection.abort()
    await _closed()


async def truncated(message: Message, call: Call, send: Send) -> None:
    """Send half of a reply's body, and close the connection.

    :raises ConnectionResetError: there is no connection to close: the client is in this process.
    """
    if call.connection is None:
        raise ConnectionResetError("ordered: the answer's body is cut")
    body = message["body"]
    await send({**message, "body": body[: len(body) // 2], "more_body": True})
    call.connection.close()
    await _closed()


async def _closed() -> None:
    for _ in range(_ROUNDS_TO_CLOSE):
        await next_round()
