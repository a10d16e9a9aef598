"""Workers that are not let in: they ask again at once, and show nobody why they were refused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from emulator.clock.real_time import next_round, real_seconds

if TYPE_CHECKING:
    from emulator.api.exchange import Call, Reply

log = logging.getLogger("emulator.api")

#: Real seconds for which a refusal is held back: the SDK asks again as soon as it has been answered.
_HOLD_S = 1.0
#: Real seconds from one line about the same refusal to the next.
_TELL_EVERY_S = 60.0
#: So many refusals are told apart; beyond them all counts begin anew.
_TOLD_APART = 100


class RefusedWorkers:
    """Holds refusals back, and tells each at once, then once a minute with its count."""

    def __init__(self) -> None:
        #: Per refusal: when it was told last, in real seconds, and how often it has come since.
        self._since: dict[tuple[int, str], tuple[float, int]] = {}

    async def refuse(self, call: Call, refusal: Reply) -> Reply:
        """The refusal, after a while.

        :raises ClientGone: the worker hung up meanwhile.
        """
        self._tell(call, refusal)
        await call.while_connected(_hold(), listen_at_once=True)
        return refusal

    def _tell(self, call: Call, refusal: Reply) -> None:
        now_s = real_seconds()
        kind = refusal.status, refusal.reason
        told_s, count = self._since.get(kind, (None, 0))
        if told_s is not None and now_s - told_s < _TELL_EVERY_S:
            self._since[kind] = told_s, count + 1
            return
        if len(self._since) >= _TOLD_APART:
            self._since.clear()
        self._since[kind] = now_s, 0
        again = f" (it has come {count} times more since this was last said)" if count else ""
        hint = "; the SDK sends what RUNPOD_AI_API_KEY says" if refusal.status == 401 else ""
        log.warning(
            "a worker is refused: %s %s → %d: %s%s%s",
            call.method, call.path, refusal.status, refusal.reason, hint, again,
        )  # fmt: skip


async def _hold() -> None:
    await next_round(_HOLD_S)
