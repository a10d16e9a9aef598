"""One browser and one emulator for the tests of a file; each test has a page and an endpoint of its own."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from emulator import Emulator, EndpointConfig
from tests.console.handlers import handle
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page

_numbers = count(1)


# Not of the session: while it is there, its loop runs in this thread, where others have theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_S * 1000)
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("these tests need chromium: apt-get install chromium, or CHROMIUM=/path/to/it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    emulator = Emulator({"first": EndpointConfig(handler=handle)}, rate_limits=False, code_over_http=True)
    with emulator.serve() as client:
        yield str(client.url)


@dataclass
class Endpoint:
    """An endpoint, driven as its clients do."""

    url: str
    id: str

    def call(self, method: str, path: str, **options: Any) -> Any:
        response = httpx.request(
            method,
            self.url + path,
            headers={"authorization": "Bearer any"},
            trust_env=False,
            timeout=PATIENCE_S,
            **options,
        )
        assert response.status_code == 200, response.text
        return response.json()

    def run(self, input: Any, **fields: Any) -> str:
        return self.call("POST", f"/v2/{self.id}/run", json={"input": input, **fields})["id"]

    def runsync(self, input: Any, **fields: Any) -> dict[str, Any]:
        return self.call("POST", f"/v2/{self.id}/runsync", json={"input": input, **fields})

    def control(self, method: str, path: str, **options: Any) -> Any:
        return self.call(method, f"/_emulator{path}", **options)


@pytest.fixture
def make_endpoint(url: str) -> Iterator[Callable[..., Endpoint]]:
    made = []

    def make(**settings: Any) -> Endpoint:
        endpoint = Endpoint(url, f"ep{next(_numbers)}")
        endpoint.control("PUT", f"/endpoints/{endpoint.id}", json=settings)
        made.append(endpoint)
        return endpoint

    yield make
    for endpoint in made:
        endpoint.control("DELETE", f"/endpoints/{endpoint.id}")


@pytest.fixture
def endpoint(make_endpoint: Callable[..., Endpoint]) -> Endpoint:
    return make_endpoint(handler="tests.console.handlers:handle")


@pytest.fixture
def served() -> Iterator[Callable[..., str]]:
    """Serves an emulator of the test's own until its pages are closed; gives the URL."""
    with ExitStack() as ended:
        yield lambda emulator, *where: str(ended.enter_context(emulator.serve(*where)).url)


@pytest.fixture
def open_page(
    browser: Browser, make_endpoint: Callable[..., Endpoint], served: Callable[..., str]
) -> Iterator[Callable[..., Page]]:
    """Opens pages in which an error in the console, or a report of the policy, fails the test.

    They are closed before their endpoints go: one that is open would ask for what is there no more.
    """
    complaints: list[str] = []
    contexts = []

    def open(address: str, *, expects: str = "", **options: Any) -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)

        def complain(text: str) -> None:
            if not expects or expects not in text:
                complaints.append(text)

        def hear(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                complain(f"{message.text} ({message.location['url']})")

        page.on("console", hear)
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(address)
        return page

    yield open
    for context in contexts:
        context.close()
    assert complaints == []


def at(endpoint: Endpoint, path: str = "requests") -> str:
    """The address of a tab."""
    return f"{endpoint.url}/_emulator/ui/#/{endpoint.id}/{path}"
