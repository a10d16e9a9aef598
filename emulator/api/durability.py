"""Nothing is answered before it is on disk, where the state is kept in a file (docs/state.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.api.control.controls import ControlError
from emulator.errors import NotKept

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from emulator.api.exchange import Call
    from emulator.core.endpoint import Endpoint
    from emulator.ledger.ledger import Ledger
    from emulator.ledger.state_file import StateFile

#: What makes a job; what tells of one; and what changes others.
_MAKES_A_JOB = frozenset({"run", "runsync", "openai"})
_TELLS_OF_A_JOB = frozenset({"runsync", "status", "status-sync", "stream", "openai"})
_CHANGES = frozenset({"run", "cancel", "retry", "purge-queue", "job-stream", "job-done"})


class Durability:
    """Holds answers back until what they say is on disk; without a state file it holds back none."""

    def __init__(self, state: StateFile | None) -> None:
        self._state = state

    @property
    def _ledger(self) -> Ledger | None:
        return None if self._state is None else self._state.ledger

    @property
    def is_kept(self) -> bool:
        """Whether there is a state file at all."""
        return self._state is not None

    async def before(self, name: str) -> None:
        """Refuse what would make a job while none can be kept.

        :raises NotKept: see above.
        """
        if name in _MAKES_A_JOB and (ledger := self._ledger) is not None:
            await ledger.ready()

    async def after(self, name: str, call: Call, endpoint: Endpoint) -> None:
        """Return when the answer to an operation may be given.

        :raises NotKept: what it would say is not on disk, and cannot be.
        """
        if (ledger := self._ledger) is None:
            return
        if name in _TELLS_OF_A_JOB:
            await ledger.job_kept(endpoint, call.job_id)
        elif name in _CHANGES:
            await ledger.kept(call.job_id)

    async def all_kept(self) -> None:
        """Return when all that has happened is on disk.

        :raises NotKept: it cannot be written.
        """
        if (ledger := self._ledger) is not None:
            await ledger.kept()

    def of_control(self, method: str, send: Send) -> Send:
        """Have the answer to a call of the control API wait until what it has changed is on disk."""
        if self._ledger is None or method in ("GET", "HEAD"):
            return send
        refused = False

        async def send_when_kept(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                ledger = self._ledger
                if ledger is not None:
                    ledger.touch()
                    try:
                        await ledger.kept()
                    except NotKept as error:
                        refused = True
                        await _refuse(error, send)
            if not refused:
                await send(message)

        return send_when_kept


async def _refuse(error: NotKept, send: Send) -> None:
    body = ControlError(500, "not_kept", str(error), "see docs/state.md").body()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
