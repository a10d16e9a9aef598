"""The state as a whole: taken out of the emulator, and put into it (docs/state.md)."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from emulator.api.control.controls import ControlError
from emulator.api.control.given import Given
from emulator.ledger.json_lines import lines_of, state_of_lines

if TYPE_CHECKING:
    pass

log = logging.getLogger("emulator.api")


class StateLoaded(BaseModel):
    """What has come of a state that was loaded."""

    jobs: int = Field(description="How many jobs it had.")


router = APIRouter()


@router.post("/state/save", response_class=Response)
async def save(controls: Given, endpoint: str | None = None, secrets: bool = False) -> Response:
    """All jobs, webhooks, stubs, faults and counters as lines of JSON, of an endpoint or of all; secrets
    are masked unless they are asked for.
    """
    if endpoint is not None:
        controls.endpoint(endpoint)
    lines = b"".join(lines_of(controls.save_state(endpoint), with_secrets=secrets))
    return Response(lines, media_type="application/x-ndjson")


@router.post("/state/load")
async def load(controls: Given, request: Request, endpoint: str | None = None) -> StateLoaded:
    """Go on from such lines, or from an array of the same objects: in place of all there is, or in an
    endpoint, beside what it has. Clocks stay as they are: what had a minute left has a minute left.
    """
    if endpoint is not None:
        controls.endpoint(endpoint)
    state = state_of_lines(_lines(await request.body()), controls.clock.now_ms())
    if endpoint is None and state.runs_code:
        refusal = controls.access.code_refusal(dict(request.scope["headers"]))
        if refusal:
            raise ControlError(403, "forbidden", refusal, "see docs/security.md")
    count = await controls.load_state(state, endpoint)
    log.info("state loaded: %d jobs", count)
    return StateLoaded(jobs=count)


def _lines(body: bytes) -> list[bytes]:
    if not body.lstrip().startswith(b"["):
        return body.splitlines()
    try:
        return [json.dumps(each).encode() for each in json.loads(body)]
    except (ValueError, RecursionError) as error:
        raise ControlError(400, "invalid_request", f"body: not valid JSON: {error}") from error
