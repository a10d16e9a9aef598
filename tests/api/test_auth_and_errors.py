"""Who may call, and what every refusal looks like (wire.md 1)."""

import re
import socket
from email.utils import formatdate

import httpx
import pytest

from emulator import Emulator, VirtualClock, __version__
from tests.api.client import emulated, served
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio

#: Every operation with the methods it answers.
OPERATIONS = {
    "/run": "POST",
    "/runsync": "POST",
    "/status/x": "GET, POST",
    "/status-sync/x": "GET, POST",
    "/stream/x": "GET, POST",
    "/cancel/x": "POST",
    "/retry/x": "POST",
    "/purge-queue": "POST",
    "/health": "GET",
    "/requests": "GET",
}
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
OVER_ALL = pytest.mark.parametrize("path", OPERATIONS)
BOTH_PREFIXES = pytest.mark.parametrize("prefix", ["/v2/ep", ""], ids=["v2", "root"])


def error_of(response, status, title):
    """The detail of an error, once its envelope has been checked."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["status", "title", "detail", "error"]
    assert (body["status"], body["title"]) == (status, title)
    assert body["error"] == body["detail"]
    return body["detail"]


def keyed(*keys):
    return {"api_keys": keys}


# 401


@OVER_ALL
@BOTH_PREFIXES
async def test_no_key_is_refused_by_every_operation(prefix, path):
    async with emulated() as client:
        del client.http.headers["authorization"]
        response = await client.http.request(OPERATIONS[path].split(", ")[0], prefix + path)
        assert error_of(response, 401, "Unauthorized").startswith("no token provided: send the header")


@pytest.mark.parametrize("value", ["", " ", "Bearer", "Bearer ", "bearer   "])
async def test_an_empty_key_is_none(value):
    async with emulated() as client:
        response = await client.get("/health", headers={"authorization": value})
        assert error_of(response, 401, "Unauthorized").startswith("no token provided")


@pytest.mark.parametrize("value", ["Bearer anything", "anything", "bearer x", "Bearer   y  ", "rpa_123", "é"])
async def test_any_key_passes_when_none_are_configured(value):
    async with emulated() as client:
        response = await client.get("/health", headers={"authorization": value.encode()})
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("Bearer first", 200),
        ("second", 200),
        ("BEARER second", 200),
        ("Bearer third", 401),
        ("third", 401),
        ("Bearer First", 401),
        ("Bearer firstsecond", 401),
        ("Bearer first second", 401),
        ("Bearer fir", 401),
        ("Basic first", 401),
    ],
)
async def test_of_configured_keys_only_those_pass(value, status):
    async with emulated(options=keyed("first", "second")) as client:
        response = await client.get("/health", headers={"authorization": value})
        assert response.status_code == status
        if status == 401:
            detail = error_of(response, 401, "Unauthorized")
            assert detail.startswith("invalid api key")
            assert value.split()[-1] not in detail.split()


async def test_without_auth_no_key_is_asked_for():
    async with emulated(options={"auth": False, **keyed("first")}) as client:
        for headers in ({"authorization": ""}, {"authorization": "Bearer other"}):
            assert (await client.get("/health", headers=headers)).status_code == 200


async def test_with_keys_the_control_api_asks_for_one_too():
    async with emulated(options=keyed("first")) as client:
        for path, status in (("/_emulator/health", 200), ("/_emulator/ready", 200), ("/_emulator/jobs", 401)):
            response = await client.http.get(path, headers={"authorization": ""})
            assert response.status_code == status
        response = await client.http.get("/_emulator/jobs", headers={"authorization": "first"})
        assert response.status_code == 200


async def test_without_keys_the_control_api_asks_for_none():
    async with emulated() as client:
        response = await client.http.get("/_emulator/jobs", headers={"authorization": ""})
        assert response.status_code == 200


async def test_a_key_is_neither_logged_nor_shown(caplog):
    caplog.set_level("DEBUG", "emulator")
    async with emulated(options=keyed("hidden-right")) as client:
        for key in ("hidden-right", "hidden-wrong"):
            response = await client.post(
                "/run", json={"input": 1}, headers={"authorization": f"Bearer {key}"}
            )
            assert "hidden" not in response.text
    assert "/run → 401" in caplog.text
    assert "hidden" not in caplog.text


# 404 and 405


@pytest.mark.parametrize("value", [None, "", "Bearer wrong"])
async def test_whether_there_is_such_an_endpoint_is_said_before_a_key_is_asked_for(value):
    async with emulated(options=keyed("right")) as client:
        client.http.headers.pop("authorization")
        headers = {} if value is None else {"authorization": value}
        response = await client.http.post("/v2/other/run", json={"input": 1}, headers=headers)
        assert error_of(response, 404, "Not Found").startswith("endpoint not found: 'other'")
        response = await client.http.post("/v2/ep/nothing", headers=headers)
        assert error_of(response, 401, "Unauthorized")


@pytest.mark.parametrize("path", ["/run", "/status/x", "/nothing", ""])
async def test_an_unknown_endpoint_is_not_found_and_the_known_are_named(path):
    emulator = Emulator({"images": None, "text": None}, clock=VirtualClock())
    async with emulator, httpx.AsyncClient(transport=httpx.ASGITransport(emulator.app)) as http:
        response = await http.post(f"http://emulator/v2/other{path}", headers={"authorization": "k"})
        detail = error_of(response, 404, "Not Found")
        assert detail == "endpoint not found: 'other': this emulator serves images, text"


@pytest.mark.parametrize(
    "path",
    [
        "/v2/ep",
        "/v2/ep/",
        "/v2/ep/nothing",
        "/v2/ep/run/x",
        "/v2/ep/run/",
        "/v2/ep/status",
        "/v2/ep/status/a/b",
        "/v2/ep//run",
        "/v2/ep/RUN",
        "/run/x",
        "/status",
        "/purge-queue/x",
    ],
)
async def test_an_unknown_operation_is_not_found_and_the_known_are_named(path):
    async with emulated() as client:
        detail = error_of(await client.http.post(path), 404, "Not Found")
        assert detail.startswith(f"no such operation: '{path}': there is /run, /runsync, /status/{{id}}")


@pytest.mark.parametrize("path", ["/v2", "/nothing", "/v1/ep/run", "/favicon.ico", "/..%2f", "/%00"])
async def test_any_other_path_is_not_found(path):
    async with emulated() as client:
        detail = error_of(await client.http.get(path), 404, "Not Found")
        assert detail.startswith("nothing is served at ")
        assert detail.endswith("see /_emulator/docs")


@OVER_ALL
@BOTH_PREFIXES
async def test_a_wrong_method_is_refused_and_the_right_ones_are_named(prefix, path):
    async with emulated() as client:
        for method in METHODS:
            if method in OPERATIONS[path]:
                continue
            response = await client.http.request(method, prefix + path)
            assert response.headers["allow"] == OPERATIONS[path]
            if method == "HEAD":
                assert response.status_code == 405
                continue
            detail = error_of(response, 405, "Method Not Allowed")
            assert detail == f"{method} is not allowed here: use {OPERATIONS[path]}"


async def test_the_endpoint_is_checked_before_the_key_then_the_path_then_the_method():
    async with emulated(options=keyed("right")) as client:

        async def status(method, path, key):
            response = await client.http.request(method, path, headers={"authorization": key})
            return response.status_code

        assert await status("DELETE", "/v2/other/run", "wrong") == 404
        assert await status("DELETE", "/v2/ep/nothing", "wrong") == 401
        assert await status("DELETE", "/v2/ep/run", "wrong") == 401
        assert await status("DELETE", "/v2/other/run", "right") == 404
        assert await status("DELETE", "/v2/ep/nothing", "right") == 404
        assert await status("DELETE", "/v2/ep/run", "right") == 405
        assert await status("POST", "/v2/ep/run", "right") == 400


async def test_a_rate_limit_is_checked_before_the_body():
    async with emulated(options={"rate_limit_scale": 0.001}) as client:
        assert (await client.post("/run", content=b"no JSON")).status_code == 400
        response = await client.post("/run", content=b"no JSON")
        assert error_of(response, 429, "Too Many Requests").startswith("rate limit exceeded")


# 400 and 500


async def test_a_bad_request_has_the_same_envelope():
    async with emulated() as client:
        detail = error_of(await client.post("/run", json={}), 400, "Bad Request")
        assert detail.startswith("bad request: input: missing or null")


async def test_a_failing_handler_is_no_error_of_the_api():
    async with emulated() as client:
        assert (await client.runsync({"mock_error": "crash"}))["status"] == "FAILED"


async def test_a_bug_of_the_emulator_is_a_500_with_the_traceback_in_the_log(monkeypatch, caplog):
    async with emulated() as client:
        monkeypatch.setattr(client.emulator.endpoint("ep"), "health", lambda: 1 / 0)
        response = await client.get("/health")
        assert "this is a bug of the emulator" in error_of(response, 500, "Internal Server Error")
    assert "ZeroDivisionError" in caplog.text


# What every reply carries


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/ep/health", 200),
        ("POST", "/v2/ep/run", 400),
        ("GET", "/v2/ep/run", 405),
        ("GET", "/v2/other/health", 404),
        ("GET", "/nothing", 404),
        ("GET", "/_emulator/health", 200),
        ("GET", "/_emulator/nothing", 404),
        ("GET", "/_emulator/reset", 405),
        ("GET", "/_emulator/docs", 200),
    ],
)
async def test_every_reply_says_who_answered_which_request_and_when(method, path, status):
    async with emulated(options={"clock": VirtualClock(start_ms=1_767_323_045_678)}) as client:
        ids = set()
        for _ in range(3):
            response = await client.http.request(method, path)
            assert response.status_code == status
            assert response.headers["x-emulator"] == f"runpod-emulator/{__version__}"
            assert response.headers["date"] == "Fri, 02 Jan 2026 03:04:05 GMT"
            ids.add(response.headers["x-emulator-request-id"])
        assert len(ids) == 3
        assert all(re.fullmatch(r"[0-9a-f]+-\d+", one) for one in ids)


async def test_the_date_is_the_emulated_one():
    async with emulated() as client:
        await client.clock.advance(86_400_000)
        response = await client.get("/health")
        assert response.headers["date"] == formatdate(client.clock.now_ms() // 1000, usegmt=True)


async def test_over_a_socket_each_header_comes_once():
    async with served() as client:
        for response in (await client.get("/health"), await client.http.get("/_emulator/health")):
            names = [name.lower() for name, _ in response.headers.raw]
            assert sorted(names) == sorted(set(names))
            assert {b"date", b"x-emulator", b"x-emulator-request-id", b"content-length"} <= set(names)


# Web pages


FOREIGN = ["http://evil.example", "https://evil.example", "null", "http://127.0.0.1:1", "file://"]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("path", ["/v2/ep/run", "/run", "/_emulator/reset", "/_emulator/health", "/nothing"])
async def test_a_page_from_elsewhere_is_refused(origin, path):
    async with served() as client:
        response = await client.http.post(path, json={"input": 1}, headers={"origin": origin})
        assert response.status_code == 403
        assert "is from elsewhere" in response.text
        assert "access-control-allow-origin" not in response.headers
        assert response.headers["x-emulator"]
        assert (await client.jobs())["inQueue"] == 0


async def test_a_page_of_the_emulator_itself_is_served():
    async with served(workers_max=0) as client:
        own = str(client.http.base_url).rstrip("/")
        response = await client.post("/run", json={"input": 1}, headers={"origin": own})
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8000", 200),
        ("localhost:1", 200),
        ("LocalHost", 200),
        ("[::1]:8000", 200),
        ("ep.localhost:8000", 200),
        ("127.8.8.8", 200),
        ("host.docker.internal:8000", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.0.7:8000", 200),
        ("[fe80::1]", 200),
        ("emulator:8000", 200),
        ("api.runpod.ai", 200),
        ("ep.api.runpod.ai", 200),
        ("evilapi.runpod.ai", 403),
        # Of the first hundred characters alone it would be one that passes.
        (f"{'a' * 63}.{'b' * 26}.localhost.evil.example:8000", 403),
        ("[::1].evil.example", 403),
        ("[::1]evil.example:8000", 403),
        ("[::1", 403),
        ("localhost:80.evil.example", 403),
    ],
)
async def test_the_host_must_be_an_address_or_a_name_that_no_site_has(host, status):
    async with served() as client:
        for path in ("/v2/ep/health", "/_emulator/health"):
            response = await client.http.get(path, headers={"host": host})
            assert response.status_code == status
            assert ("is not this machine" in response.text) == (status == 403)


async def test_off_loopback_a_name_must_be_allowed_and_productions_does_not_stand_for_it():
    emulator = Emulator({"ep": None}, clock=VirtualClock(), allow_hosts=["gpu-box.lan"])
    async with (
        emulator,
        emulator.serve("0.0.0.0") as url,
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http,
    ):
        assert url.startswith("http://127.0.0.1:")

        async def status(host):
            headers = {"authorization": "k", "host": host}
            return (await http.get(f"{url}/v2/ep/health", headers=headers)).status_code

        for host in ("gpu-box.lan:8000", "10.0.0.1", "emulator", socket.gethostname()):
            assert await status(host) == 200
        for host in ("evil.example:8000", "api.runpod.ai"):
            assert await status(host) == 403
        headers = {"authorization": "k", "host": "gpu-box.lan:8000", "origin": "http://evil.example"}
        assert (await http.get(f"{url}/v2/ep/health", headers=headers)).status_code == 403
