"""Endpoints that come and go while others are served, and their stubs."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response

from emulator.api.control.bodies import Deleted
from emulator.api.control.controls import ControlError
from emulator.api.control.endpoint_bodies import (
    EndpointSettings,
    EndpointsView,
    EndpointView,
    LiveSettings,
    OfferedInput,
    OfferedInputs,
    StubChange,
    StubsView,
    StubView,
)
from emulator.api.control.given import Given
from emulator.api.control.replies import reply
from emulator.api.wire import EndpointHealth
from emulator.core.config import EndpointConfig
from emulator.core.json_text import encode
from emulator.scenario.stub_order import StubOrder
from emulator.workers.handler import HandlerError
from emulator.workers.offered_inputs import offered_inputs

if TYPE_CHECKING:
    from emulator.api.control.controls import Controls
    from emulator.core.endpoint import Endpoint

log = logging.getLogger("emulator.api")

#: The settings that say what workers run.
_CODE = ("handler", "image", "command", "workdir", "python", "worker_env", "worker_args")


router = APIRouter()


@router.get("/endpoints")
async def endpoints(controls: Given) -> EndpointsView:
    """All endpoints."""
    return EndpointsView(endpoints=[_view(controls, each) for each in controls.endpoints.values()])


@router.get("/endpoints/{endpoint_id}")
async def endpoint(controls: Given, endpoint_id: str) -> EndpointView:
    """One endpoint."""
    return _view(controls, controls.endpoint(endpoint_id))


@router.put("/endpoints/{endpoint_id}")
async def create(
    controls: Given, endpoint_id: str, settings: EndpointSettings, request: Request
) -> EndpointView:
    """Add an endpoint, or put it in the place of the one with this id; its jobs and workers go.

    What workers run can be set by those alone who may say so (docs/security.md).
    """
    fields = settings.model_dump(exclude_unset=True)
    if any(fields.get(name) for name in _CODE) and (
        refusal := controls.access.code_refusal(dict(request.scope["headers"]))
    ):
        raise ControlError(403, "forbidden", refusal, "see docs/security.md")
    clock = fields.pop("clock", None)
    if not any(fields.get(name) for name in ("handler", "image", "command")):
        fields.pop("worker_kind", None)
    try:
        config = replace(EndpointConfig(), **fields)
        made = await controls.create_endpoint(endpoint_id, config, clock=clock)
    except HandlerError as error:
        raise ControlError(400, "handler_error", str(error), "see docs/workers.md") from error
    log.info("endpoint %s: %s", endpoint_id, controls.describe_handler(endpoint_id))
    return _view(controls, made)


@router.patch("/endpoints/{endpoint_id}")
async def change(controls: Given, endpoint_id: str, settings: LiveSettings) -> EndpointView:
    """Change settings while the endpoint runs: for jobs that come, and for all workers."""
    endpoint = controls.endpoint(endpoint_id)
    changes = settings.model_dump(exclude_none=True)
    endpoint.configure(**changes)
    log.info("endpoint %s: %s", endpoint_id, ", ".join(f"{key} {each}" for key, each in changes.items()))
    controls.feed.add("endpoint", lambda: {"endpoint": endpoint_id, "changed": list(changes)})
    return _view(controls, endpoint)


@router.get("/endpoints/{endpoint_id}/inputs")
async def inputs(controls: Given, endpoint_id: str) -> OfferedInputs:
    """The inputs that files beside the handler hold: `test_input.json`, `.runpod/tests.json`."""
    return OfferedInputs(
        inputs=[
            OfferedInput(name=each.name, file=each.file, input=each.input)
            for each in offered_inputs(controls.endpoint(endpoint_id).config)
        ]
    )


@router.delete("/endpoints/{endpoint_id}")
async def remove(controls: Given, endpoint_id: str) -> Deleted:
    """Take an endpoint away, with its jobs and workers."""
    controls.endpoint(endpoint_id)
    if len(controls.endpoints) == 1:
        raise ControlError(400, "invalid_request", "the last endpoint cannot be taken away")
    await controls.remove_endpoint(endpoint_id)
    return Deleted(deleted=1)


@router.get("/endpoints/{endpoint_id}/stubs", response_model=StubsView)
async def stubs(controls: Given, endpoint_id: str) -> Response:
    """The stubs of an endpoint, in the order in which they are tried."""
    return reply(encode({"stubs": [stub.as_json() for stub in controls.scenario(endpoint_id).stubs]}))


@router.post("/endpoints/{endpoint_id}/stubs", response_model=StubView)
async def add_stub(controls: Given, endpoint_id: str, stub: StubOrder) -> Response:
    """Have jobs with such an input end so: `{"when": {"input": …}, "returns": …}` (docs/testing.md)."""
    return reply(encode(controls.scenario(endpoint_id).add_stub(stub.stub()).as_json()))


@router.patch("/endpoints/{endpoint_id}/stubs/{number}", response_model=StubView)
async def change_stub(controls: Given, endpoint_id: str, number: int, change: StubChange) -> Response:
    """For how many jobs a stub is good."""
    stub = controls.scenario(endpoint_id).stubs.get(number)
    stub.times = change.times
    return reply(encode(stub.as_json()))


@router.delete("/endpoints/{endpoint_id}/stubs/{number}")
async def remove_stub(controls: Given, endpoint_id: str, number: int) -> Deleted:
    """Forget one stub; the others keep their numbers."""
    controls.scenario(endpoint_id).stubs.remove(number)
    return Deleted(deleted=1)


@router.delete("/endpoints/{endpoint_id}/stubs")
async def clear_stubs(controls: Given, endpoint_id: str) -> Deleted:
    """Forget all stubs of an endpoint."""
    return Deleted(deleted=controls.scenario(endpoint_id).stubs.clear())


def _view(controls: Controls, endpoint: Endpoint) -> EndpointView:
    config = endpoint.config
    return EndpointView(
        id=endpoint.id,
        url=f"{controls.url() or ''}/v2/{endpoint.id}",
        handler=controls.describe_handler(endpoint.id),
        worker_kind=controls.worker_kind(endpoint.id),
        workers_min=config.workers_min,
        workers_max=config.workers_max,
        idle_timeout_s=config.idle_timeout_s,
        execution_timeout_ms=config.execution_timeout_ms,
        scaler_type=config.scaler_type,
        scaler_value=config.scaler_value,
        clock=endpoint.clock.mode,
        own_clock=endpoint.clock is not controls.clock,
        obstacle=endpoint.pool.starts.obstacle or None,
        health=EndpointHealth.model_validate(endpoint.health()),
    )
