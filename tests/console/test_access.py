"""Everybody can use the console: axe on every tab, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.console.conftest import at

AXE = Path(__file__).parents[2] / "console/node_modules/axe-core/axe.min.js"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "path", ["overview", "metrics", "logs", "requests", "job", "compare", "workers", "time", "webhooks"]
)
def test_axe_finds_nothing(open_page, endpoint, theme, path):
    sink = f"{endpoint.url}/_emulator/sink/{endpoint.id}"
    jobs = [endpoint.runsync({"n": 1}, webhook=sink)["id"], endpoint.runsync({"fail": "once"})["id"]]
    path = {"job": f"requests/{jobs[1]}", "compare": f"requests/compare/{'/'.join(jobs)}"}.get(path, path)
    page = open_page(at(endpoint, path), color_scheme=theme, reduced_motion="reduce")
    expect(page.locator("main .panel").first).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-theme", theme)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found] == []
