"""The documentation page: everything that is served is on it, and it needs nothing from elsewhere."""

import re
from html import unescape

import pytest

from tests.api.client import emulated

pytestmark = pytest.mark.anyio


async def test_every_operation_is_on_it_with_an_example():
    async with emulated() as client:
        page = await client.http.get("/_emulator/docs")
        document = (await client.http.get("/_emulator/openapi.json")).json()
    assert page.headers["content-type"].startswith("text/html")
    shown = set(re.findall(r"<code>([A-Z]+ /[^<]*)</code>", unescape(page.text)))
    assert shown == {
        f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods
    }
    assert "curl -X POST http://emulator/v2/ep/run -H 'Authorization: Bearer KEY'" in unescape(page.text)


async def test_what_a_policy_leaves_out_is_described_as_it_is():
    async with emulated() as client:
        document = (await client.http.get("/_emulator/openapi.json")).json()
        described = document["components"]["schemas"]["Policy"]["properties"]
        policy = client.emulator.endpoint("ep").config.default_policy
    assert {name: field["default"] for name, field in described.items()} == {
        "executionTimeout": policy.execution_timeout_ms,
        "lowPriority": policy.low_priority,
        "ttl": policy.ttl_ms,
    }


async def test_it_needs_no_network_and_runs_no_script_but_ours():
    async with emulated() as client:
        page = await client.http.get("/_emulator/docs")
    assert not re.findall(r"<(img|iframe|style)|(?:src|href)=['\"](?!/_emulator/)|url\(|@import", page.text)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page.text) == [""]
    assert "script-src 'self';" in page.headers["content-security-policy"]


async def test_a_browser_without_a_key_is_led_to_where_it_can_give_one():
    async with emulated(options={"api_keys": ["the-key"]}) as client:
        headers = {"authorization": "", "accept": "text/html,*/*"}
        response = await client.http.get("/_emulator/docs", headers=headers, follow_redirects=True)
    assert (response.status_code, response.url.path) == (200, "/_emulator/ui/docs.html")
    assert "/v2/" not in response.text


@pytest.mark.parametrize("path", ["/", "/_emulator", "/_emulator/ui"])
async def test_a_browser_finds_the_console(path):
    async with emulated() as client:
        response = await client.http.get(path, follow_redirects=True)
    assert (response.status_code, response.url.path) == (200, "/_emulator/ui/")
    policy = response.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
