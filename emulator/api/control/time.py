"""The emulated time, of the emulator or of an endpoint that has its own."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter

from emulator.api.control.bodies import (
    Advance,
    Advanced,
    ClockMode,
    ClockState,
    TimerView,
)
from emulator.api.control.given import Given
from emulator.clock.clock import subject_of
from emulator.core.job_error import explained
from emulator.errors import ClockError

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.api.control.controls import Controls
    from emulator.clock.clock import Clock
    from emulator.core.job import Job, JobStatus

log = logging.getLogger("emulator.api")

#: An answer names this many timers at most; their number is told in any case.
_TIMERS_SHOWN = 1000


router = APIRouter()


@router.get("/clock")
async def read_clock(controls: Given, endpoint: str | None = None) -> ClockState:
    """The emulated time, and what it will bring."""
    return _state(controls.clock_of(endpoint))


@router.put("/clock")
async def set_mode(controls: Given, request: ClockMode, endpoint: str | None = None) -> ClockState:
    """Set how time runs: real, frozen, auto or scaled:N."""
    return _changed(controls, endpoint, lambda clock: clock.set_mode(request.mode))


@router.post("/clock/freeze")
async def freeze(controls: Given, endpoint: str | None = None) -> ClockState:
    """Stop time; only `advance` moves it from here."""
    return _changed(controls, endpoint, lambda clock: clock.freeze())


@router.post("/clock/resume")
async def resume(controls: Given, endpoint: str | None = None) -> ClockState:
    """Let time run again, as it did when the clock was made."""
    return _changed(controls, endpoint, lambda clock: clock.resume(), "clock resumed")


@router.post("/clock/advance")
async def advance(controls: Given, request: Advance, endpoint: str | None = None) -> Advanced:
    """Move time forward: due timers fire in order, and what they cause settles before the answer."""
    if request.until is not None:
        its_endpoint, job = controls.find_job(request.until.job)
        clock = its_endpoint.clock
        moving = clock.advance_until(
            partial(_has_become, job, request.until.status),
            f"job {job.id} is to be {request.until.status}",
            max_ms=request.max_ms,
        )
    else:
        clock = controls.clock_of(endpoint)
        moving = clock.advance_to_next() if request.by_ms is None else clock.advance(request.by_ms)
    before_ms = clock.now_ms()
    fired = await moving
    _tell(controls, endpoint, clock)
    log.info("clock advanced by %d ms: %d timers fired", clock.now_ms() - before_ms, len(fired))
    return Advanced(
        **_state(clock).model_dump(),
        fired=[
            TimerView(at_ms=timer.at_ms, kind=timer.kind, subject=timer.subject)
            for timer in fired[:_TIMERS_SHOWN]
        ],
        fired_total=len(fired),
    )


def _tell(controls: Controls, endpoint_id: str | None, clock: Clock) -> None:
    told = {"endpoint": endpoint_id, "mode": clock.mode, "rate": clock.rate, "now_ms": clock.now_ms()}
    controls.feed.add("clock", lambda: told)


def _changed(
    controls: Controls, endpoint_id: str | None, change: Callable[[Clock], None], how: str = "clock"
) -> ClockState:
    clock = controls.clock_of(endpoint_id)
    change(clock)
    log.info("%s: %s", how, clock.mode)
    _tell(controls, endpoint_id, clock)
    return _state(clock)


def _has_become(job: Job, wanted: JobStatus) -> bool:
    """Whether it is in the state.

    :raises ClockError: it has ended in another: time passing would only have it forgotten.
    """
    if job.status is not wanted and job.terminal:
        error = f" ({explained(job.error)[0]})" if job.error else ""
        raise ClockError(f"job {job.id} is to be {wanted}: it has ended, {job.status}{error}")
    return job.status is wanted


def _state(clock: Clock) -> ClockState:
    timers = [
        TimerView(at_ms=timer.when_ms, kind=timer.kind, subject=subject_of(timer.argument))
        for timer in clock.pending(_TIMERS_SHOWN)
    ]
    return ClockState(
        mode=clock.mode,
        rate=clock.rate,
        now_ms=clock.now_ms(),
        pending=clock.pending_count(),
        next_timer=timers[0] if timers else None,
        timers=timers,
    )
