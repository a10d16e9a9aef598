"""The emulator's own API under /_emulator: its health, its clock, and a fresh start."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from emulator.api.wire import (
    Advance,
    Advanced,
    ClockState,
    ControlErrorBody,
    Fired,
    Health,
    NextTimer,
    NotReady,
    Ready,
    ResetCounts,
)
from emulator.core.json_text import encode
from emulator.version import __version__

if TYPE_CHECKING:
    from emulator.core.clock import Clock

log = logging.getLogger("emulator.api")

#: `advance` names this many of the timers it fired; their number is told in any case.
_FIRED_SHOWN = 1000


@dataclass(slots=True, frozen=True, kw_only=True)
class Controls:
    """What the control API can do to the emulator."""

    clock: Clock
    #: Forgets all jobs and restarts the workers; returns per endpoint how many there were.
    reset: Callable[[], Awaitable[dict[str, dict[str, int]]]]
    #: Why jobs cannot run yet, a sentence each.
    not_ready: Callable[[], list[str]]
    #: When the emulator started, ms since the epoch; None before.
    started_ms: Callable[[], int | None]


class ControlError(Exception):
    """The control API refuses a request."""

    def __init__(self, status: int, code: str, message: str, hint: str = "see /_emulator/docs") -> None:
        super().__init__(message)
        self.status = status
        self._content = {"error": {"code": code, "message": message, "hint": hint}}

    def body(self) -> bytes:
        """The answer's body."""
        return encode(self._content)


def control_router(controls: Controls) -> APIRouter:
    """The routes of the control API. Calls that change something answer once the change is visible."""
    router = APIRouter(prefix="/_emulator", tags=["control"], responses={400: {"model": ControlErrorBody}})
    clock = controls.clock

    @router.get("/health")
    async def health() -> Health:
        """Whether the emulator serves at all."""
        started_ms = controls.started_ms()
        uptime_ms = 0 if started_ms is None else clock.now_ms() - started_ms
        return Health(status="ok", version=__version__, uptime_s=uptime_ms / 1000)

    @router.get("/ready", response_model=Ready, responses={503: {"model": NotReady}})
    async def ready() -> Ready | JSONResponse:
        """Whether every endpoint can run jobs."""
        if reasons := controls.not_ready():
            return JSONResponse({"ready": False, "reasons": reasons}, 503)
        return Ready(ready=True)

    @router.get("/clock")
    async def read_clock() -> ClockState:
        """The emulated time, and what it will bring next."""
        return _state(clock)

    @router.post("/clock/advance")
    async def advance(request: Advance) -> Advanced:
        """Move time forward: due timers fire in order, and what they cause settles before the answer."""
        fired = await clock.advance(request.by_ms)
        log.info("clock advanced by %d ms: %d timers fired", request.by_ms, len(fired))
        return Advanced(
            **_state(clock).model_dump(),
            fired=[Fired(at_ms=timer.at_ms, kind=timer.kind) for timer in fired[:_FIRED_SHOWN]],
            fired_total=len(fired),
        )

    @router.post("/clock/freeze")
    async def freeze() -> ClockState:
        """Stop time; only `advance` moves it from here."""
        clock.freeze()
        log.info("clock frozen")
        return _state(clock)

    @router.post("/clock/resume")
    async def resume() -> ClockState:
        """Let time run again."""
        clock.resume()
        log.info("clock resumed: %s", clock.mode)
        return _state(clock)

    @router.post("/reset")
    async def reset() -> ResetCounts:
        """Forget all jobs, results, webhooks and counters; restart the workers and the clock's mode."""
        counts = await controls.reset()
        log.info("reset: %d jobs forgotten", sum(each["jobs"] for each in counts.values()))
        return ResetCounts(reset=counts)

    return router


def _state(clock: Clock) -> ClockState:
    timer = clock.next_timer()
    return ClockState(
        mode=clock.mode,
        rate=clock.rate,
        now_ms=clock.now_ms(),
        pending=clock.pending_count(),
        next_timer=None if timer is None else NextTimer(at_ms=timer.when_ms, kind=timer.kind),
    )
