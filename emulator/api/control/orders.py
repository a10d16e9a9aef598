"""What is ordered to go wrong, and webhook receivers that answer as ordered."""

from __future__ import annotations

import logging
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from emulator.api.control.bodies import Deleted, FaultsView, FaultView, Presets
from emulator.api.control.controls import ControlError
from emulator.api.control.given import Given
from emulator.api.control.history_bodies import CountWait, SinkBrief, SinksView, SinkView
from emulator.api.control.replies import json_of, list_of, object_of, reply
from emulator.core.json_text import encode
from emulator.scenario.fault_order import FaultOrder
from emulator.scenario.faults import PRESETS
from emulator.webhooks.answer_order import SinkAnswers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emulator.api.control.controls import Controls
    from emulator.scenario.fault_rule import FaultRule
    from emulator.webhooks.sinks import Received

log = logging.getLogger("emulator.api")

_ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]
#: Of a webhook's body, what a sink takes in.
_BODY_MAX = 32 * 1024 * 1024


router = APIRouter()


@router.get("/faults", response_model=FaultsView)
async def faults(controls: Given) -> Response:
    """The rules in force, and how often each has matched and fired."""
    return _faults_reply(controls.faults)


@router.post("/faults", response_model=FaultView)
async def order(controls: Given, rule: FaultOrder) -> Response:
    """Put a rule in force: `{"match": {…}, "then": {"status": 503}}` (docs/faults.md)."""
    ordered = controls.faults.add(rule.rule())
    log.info("fault %r ordered: %s", ordered.id, {ordered.effect: ordered.value})
    return reply(encode(ordered.as_json()))


@router.get("/faults/presets")
async def presets() -> Presets:
    """The names of the presets: rules that belong together."""
    return Presets(presets=list(PRESETS))


@router.post("/faults/presets/{name}", response_model=FaultsView)
async def order_preset(controls: Given, name: str, endpoint: str | None = None) -> Response:
    """Put the rules of a preset in force, for one endpoint or for all."""
    if endpoint is not None:
        controls.endpoint(endpoint)
    rules = controls.faults.add_preset(name, endpoint)
    log.info("faults ordered: %s", ", ".join(rule.id for rule in rules))
    return _faults_reply(rules)


@router.delete("/faults")
async def lift_all(controls: Given, endpoint: str | None = None) -> Deleted:
    """Lift all rules, or those for one endpoint alone."""
    return Deleted(deleted=controls.faults.clear(endpoint))


@router.delete("/faults/{rule_id}")
async def lift(controls: Given, rule_id: str) -> Deleted:
    """Lift one rule."""
    if not controls.faults.remove(rule_id):
        raise ControlError(404, "not_found", f"there is no fault {rule_id!r}", "see /_emulator/faults")
    return Deleted(deleted=1)


@router.api_route("/sink/{name}", methods=_ANY_METHOD, include_in_schema=False)
async def receive(controls: Given, name: str, request: Request) -> Response:
    """A webhook comes to a sink."""
    if controls.access.checks_keys and name not in controls.sinks:
        # Who has no key makes none.
        raise ControlError(404, "not_found", f"there is no sink {name[:100]!r}", "see /_emulator/docs")
    _, body = controls.sinks[name], b""
    try:
        async for part in request.stream():
            body += part[: _BODY_MAX - len(body)]
    except ClientDisconnect:
        # It has not been called, then; nobody reads this.
        return Response(status_code=HTTPStatus.BAD_REQUEST)
    now_ms = controls.clock.now_ms()
    answer = controls.sinks.receive(name, now_ms, request.method, dict(request.headers), body)
    if answer.delay_ms:
        delay = controls.clock.sleep(answer.delay_ms, "sink's delay")
        await controls.waits.until(delay, receive=request.receive)
    # HTTP allows these no body, and a server that is to send one fails.
    bodiless = answer.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    return Response("" if bodiless else answer.body, answer.status)


@router.get("/sinks")
async def sinks(controls: Given) -> SinksView:
    """The sinks there are; each is there as soon as it is called."""
    base = f"{controls.url() or ''}/_emulator/sink/"
    return SinksView(
        sinks=[SinkBrief(name=each.name, url=base + each.name, count=each.count) for each in controls.sinks]
    )


@router.get("/sinks/{name}", response_model=SinkView)
async def sink(controls: Given, name: str) -> Response:
    """What a sink has received, oldest first; webhooks reach it at `/_emulator/sink/{name}`."""
    return _sink_reply(controls, name)


@router.put("/sinks/{name}/answers", response_model=SinkView)
async def answer(controls: Given, name: str, request: SinkAnswers) -> Response:
    """What the sink answers from now on, in order, and then 200: statuses, or objects with `status`,
    `body` and `delay_ms`.
    """
    controls.sinks[name].answers.clear()
    controls.sinks[name].answers.extend(each.answer() for each in request.answers)
    return _sink_reply(controls, name)


@router.post("/sinks/{name}/wait", response_model=SinkView)
async def wait(
    controls: Given, name: str, request: CountWait, client: Request, endpoint: str | None = None
) -> Response:
    """Wait, in real time, until a sink has been called so often; answers with what there is then."""
    clock = controls.clock_of(endpoint)
    await controls.waits.until(
        controls.sinks[name].wait(request.count, clock),
        timeout_ms=request.timeout_ms,
        receive=client.receive,
    )
    return _sink_reply(controls, name)


@router.delete("/sinks/{name}")
async def remove(controls: Given, name: str) -> Deleted:
    """Forget a sink and what it has received."""
    return Deleted(deleted=int(controls.sinks.remove(name)))


def _faults_reply(rules: Iterable[FaultRule]) -> Response:
    return reply(encode({"faults": [rule.as_json() for rule in rules]}))


def _sink_reply(controls: Controls, name: str) -> Response:
    sink = controls.sinks[name]
    view = {
        "name": name,
        "url": f"{controls.url() or ''}/_emulator/sink/{name}",
        "count": sink.count,
        "answers": [asdict(each) for each in sink.answers],
    }
    return reply(object_of(view, deliveries=list_of(map(_received, sink.deliveries))))


def _received(received: Received) -> bytes:
    """A `ReceivedView` as JSON text."""
    return object_of(
        {
            "number": received.number,
            "at_ms": received.at_ms,
            "method": received.method,
            "headers": received.headers,
            "status": received.status,
        },
        body=json_of(lambda: received.parsed),
    )
