"""The emulator's own API under /_emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from emulator.api.control.basics import add_basics
from emulator.api.control.bodies import ControlErrorBody
from emulator.api.control.endpoints import add_endpoints
from emulator.api.control.events import add_events
from emulator.api.control.history import add_history
from emulator.api.control.jobs import add_jobs
from emulator.api.control.metrics import add_metrics
from emulator.api.control.orders import add_orders
from emulator.api.control.s3 import add_s3
from emulator.api.control.state import add_state
from emulator.api.control.time import add_time
from emulator.api.control.workers import add_workers

if TYPE_CHECKING:
    from emulator.api.control.controls import Controls


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ControlErrorBody},
    401: {"model": ControlErrorBody},
    403: {"model": ControlErrorBody},
    404: {"model": ControlErrorBody},
}


def control_router(controls: Controls) -> APIRouter:
    """The routes of the control API. Calls that change something answer once the change is visible."""
    router = APIRouter(prefix="/_emulator", tags=["control"], responses=_REFUSALS)
    for add in (
        add_basics, add_time, add_endpoints, add_jobs, add_workers, add_orders, add_history, add_events,
        add_metrics, add_s3, add_state,
    ):  # fmt: skip
        add(router, controls)
    return router
