"""Health, and a fresh start."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from emulator.api.control.bodies import Health, NotReady, Ready, ResetCounts
from emulator.api.control.given import Given
from emulator.core.waiting import why_not_ready
from emulator.version import __version__

if TYPE_CHECKING:
    pass

log = logging.getLogger("emulator.api")


router = APIRouter()


@router.get("/health")
async def health(controls: Given) -> Health:
    """Whether the emulator serves at all."""
    started_ms = controls.started_ms()
    uptime_ms = 0 if started_ms is None else controls.clock.now_ms() - started_ms
    return Health(status="ok", version=__version__, uptime_s=uptime_ms / 1000)


@router.get("/ready", response_model=Ready, responses={503: {"model": NotReady}})
async def ready(controls: Given) -> Ready | JSONResponse:
    """Whether every endpoint can run jobs; one whose workers do not start cannot."""
    unready = (why_not_ready(endpoint) for endpoint in controls.endpoints.values())
    if reasons := controls.not_ready() or [reason for reason in unready if reason]:
        return JSONResponse({"ready": False, "reasons": reasons}, 503)
    return Ready(ready=True)


@router.post("/reset")
async def reset(controls: Given) -> ResetCounts:
    """Forget all jobs, webhooks, counters, stubs, faults, sinks and the journal; restart the workers and
    the clocks' modes."""
    counts = await controls.reset()
    log.info("reset: %d jobs forgotten", sum(each["jobs"] for each in counts.values()))
    return ResetCounts(reset=counts)
