"""Web pages of other sites: closed, unless their origin is allowed, and then for the endpoints alone."""

import pytest

from emulator import ConfigError, Emulator
from tests.api.client import emulated

pytestmark = pytest.mark.anyio
PAGE = "https://app.localhost:3000"
FROM_PAGE = {"origin": PAGE, "sec-fetch-site": "cross-site"}
ASKS = {
    **FROM_PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


def allowing(*origins):
    return emulated(options={"allow_origins": origins})


async def test_an_allowed_page_is_told_that_it_may_and_gets_its_answer():
    async with allowing("http://other.example", PAGE) as client:
        asked = await client.http.options("/v2/ep/runsync", headers=ASKS)
        assert (asked.status_code, asked.content) == (204, b"")
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert asked.headers["access-control-allow-methods"] == "GET, POST"
        assert asked.headers["access-control-allow-headers"] == ASKS["access-control-request-headers"]
        answer = await client.post("/runsync", json={"input": 1}, headers=FROM_PAGE)
        assert (answer.json()["status"], answer.headers["access-control-allow-origin"]) == ("COMPLETED", PAGE)
        assert answer.headers["vary"] == "Origin"


async def test_it_can_read_errors_and_streams_too():
    async with allowing(PAGE) as client:
        refused = await client.http.get("/v2/ep/health", headers={**FROM_PAGE, "authorization": ""})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
        body = {"messages": [], "stream": True}
        streamed = await client.post("/openai/v1/chat/completions", json=body, headers=FROM_PAGE)
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/_emulator/endpoints"),
        ("POST", "/_emulator/reset"),
        ("GET", "/v2/ep/job-take/w1?job_in_progress=0"),
        ("GET", "/job-take/w1?job_in_progress=0"),
        ("GET", "/v2/_emulator/reset"),
    ],
)
async def test_nothing_but_the_endpoints_is_its(method, path):
    async with allowing(PAGE) as client:
        for headers, verb in ((ASKS, "OPTIONS"), (FROM_PAGE, method)):
            answer = await client.http.request(verb, path, headers=headers)
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", f"{PAGE}1", "http://app.localhost:3000", "null"])
@pytest.mark.parametrize("allowed", [(), (PAGE,)])
async def test_all_other_pages_stay_out(origin, allowed):
    async with allowing(*allowed) as client:
        for method, headers in (("OPTIONS", ASKS), ("POST", FROM_PAGE)):
            answer = await client.http.request(method, "/v2/ep/run", headers={**headers, "origin": origin})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.localhost", f"{PAGE}/", f"{PAGE}/x", "https://a@b", "https://"]
)
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(ConfigError, match="allow_origin is "):
        Emulator(allow_origins=[origin])
