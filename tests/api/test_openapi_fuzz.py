"""Requests made up from the OpenAPI document: none makes the emulator fail or hang."""

from dataclasses import dataclass

import pytest
import requests
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from emulator import Clock, Emulator, EndpointConfig
from tests.api.client import KEY
from tests.limits import PATIENCE_S

#: Emulated milliseconds to the real one.
RATE = 1_000.0
DOCUMENT = Emulator().app.openapi()
#: Time that stands still would hold every wait for ever.
FREEZE = ("post", "/_emulator/clock/freeze")
#: An answer without an end; tests/api/test_console_api.py reads it.
EVENTS = ("get", "/_emulator/events")
#: How long the job that is asked about takes; None is a made-up job id.
SECONDS = st.none() | st.integers(0, 30)


def each_operation_and_mode():
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if (method, path) not in (FREEZE, EVENTS):
                yield method, path, GenerationMode.POSITIVE
                if "requestBody" in operation or any(
                    # Any text is a worker's id, so far as a schema can say.
                    parameter["schema"].get("type") != "string" or "minLength" in parameter["schema"]
                    for parameter in operation.get("parameters", ())
                ):
                    yield method, path, GenerationMode.NEGATIVE


@dataclass(frozen=True)
class Served:
    """An emulator behind a socket, run by a loop in another thread."""

    schema: schemathesis.BaseSchema
    url: str
    session: requests.Session

    def job(self, seconds: int) -> str:
        """The id of a job that takes so long; it fails if that is an odd number."""
        job_input = {"seconds": seconds}
        answer = self.session.post(
            f"{self.url}/v2/ep/run", json={"input": job_input}, headers=KEY, timeout=PATIENCE_S
        )
        return answer.json()["id"]


@pytest.fixture(scope="module")
def served():
    async def deliver_nowhere(*_):
        return 200

    async def handler(job):
        # Other jobs' inputs are made up.
        given = job["input"]
        seconds = given.get("seconds") if isinstance(given, dict) else None
        seconds = seconds if seconds in range(31) else 0
        await clock.sleep(int(seconds) * 1000)
        # Not by an exception: writing down its traceback parses code, which CPython 3.11 cannot do in two
        # threads at once, and Hypothesis does so too.
        return {"error": "it was odd"} if seconds % 2 else {"seconds": seconds}

    clock = Clock(rate=RATE)
    config = EndpointConfig(handler=handler, workers_min=1)
    emulator = Emulator({"ep": config}, clock=clock, rate_limits=False)
    with (
        pytest.MonkeyPatch.context() as patch,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(emulator),
        portal.wrap_async_context_manager(emulator.serve()) as url,
        requests.Session() as session,
    ):
        # A made-up webhook points anywhere.
        patch.setattr("emulator.webhooks.call.ReceiverCall._post", deliver_nowhere)
        session.trust_env = False
        yield Served(schemathesis.openapi.from_dict(DOCUMENT), url, session)


@pytest.mark.parametrize(("method", "path", "mode"), list(each_operation_and_mode()))
def test_no_request_makes_it_fail_or_hang(served, method, path, mode):
    @given(case=served.schema[path][method].as_strategy(generation_mode=mode), seconds=SECONDS)
    @settings(
        max_examples=25 if path.startswith("/v2/") else 10,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case, seconds):
        # These wait in real time.
        waits = path.endswith("/wait") and isinstance(case.body, dict)
        if waits and isinstance(case.body.setdefault("timeout_ms", 20), int | float):
            case.body["timeout_ms"] = min(case.body["timeout_ms"], 20)
        if "endpoint_id" in case.path_parameters:
            case.path_parameters["endpoint_id"] = "ep"
        if seconds is not None and "job_id" in case.path_parameters:
            case.path_parameters["job_id"] = served.job(seconds)
        case.call_and_validate(
            base_url=served.url,
            session=served.session,
            # A job that fails is a 500 of the OpenAI routes.
            checks=[
                *([] if "/openai/" in path else [not_a_server_error]),
                response_schema_conformance,
                status_code_conformance,
            ],
            headers=KEY,
            timeout=PATIENCE_S,
        )

    ask()
