"""What nobody would send: raw requests, a worker's calls, orders of made-up parts. None is a 500, or hangs.

The operations of the OpenAPI document, with what it says of them, are in tests/api/test_openapi_fuzz.py.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.core.bounds import TIME_MAX_MS
from emulator.scenario.fault_rule import EFFECTS
from tests.api.client import KEY, an_emulator, client_of
from tests.limits import PATIENCE_S

fuzz = partial(
    settings, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

NUMBERS = st.sampled_from([0, -1, 1, 0.5, 10**400, 2**63, -(2**63) - 1, 1e308, float("inf"), float("nan")])
TEXTS = st.sampled_from(
    ["", "a", "\0", "\ud800", "a" * 5000, "$..*", "$[?@.a==1]", "(" * 200, "run", "ep", "before", "reset"]
) | st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def run():
    """Runs coroutines in one loop, with an emulator in it."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def client(run):
    """Of an emulator in this process, on a frozen clock."""
    ended = AsyncExitStack()

    async def start():
        emulator = an_emulator(None, {"rate_limits": False}, {"workers_max": 1})
        await ended.enter_async_context(emulator)
        return await ended.enter_async_context(client_of(emulator))

    with pytest.MonkeyPatch.context() as patch:
        # Those who are not let in are held for a second of real time.
        patch.setattr("emulator.api.refused_workers._HOLD_S", 0.0)
        yield run(start())
        run(ended.aclose())


@pytest.fixture(scope="module")
def url(run):
    """Of one that is reached by a socket."""
    ended = AsyncExitStack()

    async def start():
        emulator = an_emulator(None, {"rate_limits": False}, {})
        await ended.enter_async_context(emulator)
        return httpx.URL(await ended.enter_async_context(emulator.serve()))

    yield run(start())
    run(ended.aclose())


def as_json(value):
    """As JSON text that Python's own parser reads, be it none by the standard."""
    return json.dumps(value).encode()


# Requests

METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"get", b"", b"X" * 50])
PATHS = st.sampled_from(
    [b"/v2/ep/run", b"/v2/ep/status/x", b"/v2/ep/health", b"/run", b"/_emulator/jobs", b"/v2//", b"//", b"*"]
) | st.binary(max_size=20).map(lambda path: b"/" + path)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"Host", b"Authorization", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect",
             b"Origin", b"Upgrade", b"X", b""]
        ),
        st.sampled_from(
            [b"x", b"localhost", b"5", b"-1", b"99999999999999999999", b"chunked", b"close", b"100-continue",
             b"websocket", b"\x00", b"\xff", b"http://127.0.0.1", b"a" * 9000, b""]
        ),
    ),
    max_size=5,
)  # fmt: skip
BODIES = VALUES.map(as_json) | st.binary(max_size=50) | st.just(b"5\r\nhello\r\n0\r\n\r\n")


@fuzz(max_examples=100)
@given(method=METHODS, path=PATHS, headers=HEADERS, body=BODIES, cut=st.integers(0, 40), rude=st.booleans())
def test_whatever_comes_on_a_connection_others_are_served(run, url, method, path, headers, body, cut, rude):
    sent = method + b" " + path + b" HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in headers)
    sent += b"\r\n" + body
    sent = sent[: len(sent) - cut] if cut > 20 else sent

    async def send():
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(sent)
        if rude:
            writer.transport.abort()
        else:
            # What is half sent ends with this.
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
            assert not answer.startswith(b"HTTP/1.1 5"), answer
            writer.close()
        async with httpx.AsyncClient(base_url=url, headers=KEY, trust_env=False, timeout=PATIENCE_S) as other:
            assert (await other.get("/v2/ep/health", timeout=PATIENCE_S)).status_code == 200

    run(send())


# A worker's calls

WORKER_CALLS = st.sampled_from(
    ["job-take", "job-take-batch", "job-stop", "job-stream", "job-done", "ping", "job-x"]
)
IDS = st.sampled_from(["w", "w&job_in_progress=0", "%00", "..", "a" * 200, "", "\u00e9", "$ID"]) | st.text(
    max_size=8
)
RESULTS = VALUES | st.dictionaries(
    st.sampled_from(["output", "error", "status", "stopPod", "x"]),
    VALUES | st.just("IN_PROGRESS"),
    max_size=4,
)


@fuzz(max_examples=100)
@given(
    call=WORKER_CALLS,
    ids=st.lists(IDS, min_size=1, max_size=3),
    method=st.sampled_from(["GET", "POST"]),
    query=st.dictionaries(
        st.sampled_from(
            ["job_in_progress", "batch_size", "job_id", "status", "reason", "check", "started", "isStream"]
        ),
        TEXTS | st.sampled_from(["0", "here", "unhealthy", "9" * 50]),
        max_size=3,
    ),
    body=RESULTS.map(as_json) | st.binary(max_size=20),
    holds=st.booleans(),
)
def test_whatever_a_worker_says_jobs_go_on(run, client, call, ids, method, query, body, holds):
    async def say():
        job_id = await client.run()
        path = "/".join(
            quote(each.encode("utf-8", "replace"), safe="&=") for each in [*ids[: 1 + ("job-d" in call)]]
        )
        if holds and call in ("job-done", "job-stream"):
            path = f"{quote(ids[0].encode('utf-8', 'replace'))}/{job_id}"
        said = "&".join(f"{name}={quote(text.encode('utf-8', 'replace'))}" for name, text in query.items())
        asking = asyncio.ensure_future(
            client.http.request(
                method, f"/v2/ep/{call}/{path}?{said}", content=None if method == "GET" else body
            )
        )
        while not asking.done():
            # A poll is held for a minute.
            await client.clock.advance(60_000)
        assert asking.result().status_code < 500, asking.result().text
        assert (await client.get("/health")).status_code == 200
        await client.post("/purge-queue")

    run(say())


# Orders

EXPECTED = VALUES | st.dictionaries(
    st.sampled_from(["$regex", "$..a", "$", "a", "$.a[0]", "$[?@.a]"]), VALUES, min_size=1, max_size=2
)
THEN = (
    st.dictionaries(st.sampled_from([*EFFECTS, "headers", "body", "after_ms", "x"]), VALUES, max_size=2)
    | VALUES
)
SMALL = st.sampled_from([0, 1, 5_000])
GOOD_THEN = st.one_of(
    st.fixed_dictionaries({"latency_ms": SMALL}),
    st.fixed_dictionaries({"stall_ms": SMALL}),
    st.fixed_dictionaries({"status": st.sampled_from([200, 204, 304, 429, 503]), "body": VALUES}),
    st.fixed_dictionaries({"fail": TEXTS}),
    st.fixed_dictionaries({"crash": st.sampled_from(["before", "mid"])}),
    st.sampled_from([{"duplicate": True}, {"lose_result": True}, {"hang": True}, {"ignore_cancel": True}]),
)
FAULTS = st.fixed_dictionaries(
    {"then": GOOD_THEN | THEN},
    optional={
        "match": st.fixed_dictionaries({"input": EXPECTED}) | VALUES,
        "times": st.sampled_from([1, None]) | VALUES,
        "skip": SMALL | VALUES,
        "probability": st.sampled_from([0, 1, 0.5]) | VALUES,
        "seed": st.integers() | VALUES,
        "id": TEXTS,
    },
)
STUBS = st.fixed_dictionaries(
    {},
    optional={
        "when": st.fixed_dictionaries({"input": EXPECTED}) | VALUES,
        "returns": VALUES,
        "fails": TEXTS | VALUES,
        "chunks": st.lists(VALUES, max_size=3) | VALUES,
        "progress": st.lists(VALUES, max_size=3) | VALUES,
        "delay_ms": SMALL | VALUES,
        "times": st.sampled_from([1, None]) | VALUES,
    },
)


@fuzz(max_examples=150)
@given(fault=FAULTS, stub=STUBS, match=EXPECTED, given_input=VALUES)
def test_whatever_is_ordered_a_job_ends_and_afterwards_all_is_well(
    run, client, fault, stub, match, given_input
):
    async def order():
        for method, path, body in (
            ("POST", "/_emulator/faults", fault),
            ("POST", "/_emulator/endpoints/ep/stubs", stub),
            ("POST", "/_emulator/journal/find", {"match": match}),
        ):
            answer = await client.http.request(method, path, content=as_json(body))
            assert answer.status_code in (200, 400), (body, answer.text)
        submitting = asyncio.ensure_future(client.post("/run", content=as_json({"input": given_input})))
        while not submitting.done():
            # It may have been ordered to take as long as that.
            await client.clock.advance(TIME_MAX_MS)
        answer = submitting.result()
        ordered = fault["then"].get("status") if isinstance(fault["then"], dict) else None
        assert answer.status_code in (200, 400, ordered), answer.text
        for path in ("/_emulator/faults", "/_emulator/endpoints/ep/stubs", "/_emulator/journal"):
            told = await client.http.get(path)
            assert told.status_code == 200, told.text
        assert (await client.http.post("/_emulator/reset")).status_code == 200
        assert (await client.runsync("well"))["status"] == "COMPLETED"

    run(order())
