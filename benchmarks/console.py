"""What the console costs: its size, its start, and a browser that shows thousands of jobs while more come."""

from __future__ import annotations

import gzip
import os
import shutil
import threading
from http.client import HTTPConnection
from statistics import median, quantiles
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from benchmarks.figure import Figure, NotMeasured, Target
from benchmarks.report import say
from benchmarks.servers import HOST, ROOT, Server, ours

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page

    from benchmarks.report import Report
    from benchmarks.scale import Scale

_FILES = ROOT / "emulator/console"
_SHOWN_WITHIN_MS = 60_000
#: A job is queued, taken and ended: three events each.
_JOBS_PER_S = 70
_BODY = b'{"input":{"prompt":"a lighthouse at dusk"}}'
#: Notes when the page can be used: the endpoint's state is known, and the list is there.
_READY = """
const look = () => {
  const state = document.querySelector("#state"), list = document.querySelector(".list");
  if (state?.textContent.includes("Ready") && list) window.usableAfterMs = performance.now();
  else requestAnimationFrame(look);
};
look();
"""
_FRAMES = """
window.frames_ms = [];
let last = performance.now();
const note = (now) => { window.frames_ms.push(now - last); last = now; requestAnimationFrame(note); };
requestAnimationFrame(note);
"""


def measure(report: Report, scale: Scale) -> None:
    """Open the console several times, give it jobs, and watch its frames.

    :raises NotMeasured: there is no chromium, or the page does not show what it is to show.
    """
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise NotMeasured("chromium is not installed")
    report.add(
        "console",
        Figure(name="all files, gzipped", value=_size_kb(), unit="kB", target=Target.at_most(200)),
    )
    with Server(ours()) as server, sync_playwright() as playwright:
        server.wait_until_ready()
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        address = f"http://{HOST}:{server.port}/_emulator/ui/"
        starts = []
        for _ in range(scale.starts):
            # None is to be there later: it would follow the events too.
            with browser.new_context() as context:
                starts.append(_start_ms(context.new_page(), address))
        report.add(
            "console",
            Figure(name="first paint", value=median(paint for paint, _ in starts), unit="ms"),
            Figure(name="usable", value=median(usable for _, usable in starts), unit="ms"),
        )
        page = browser.new_context().new_page()
        _start_ms(page, address)
        page.set_default_timeout(_SHOWN_WITHIN_MS)
        devtools = page.context.new_cdp_session(page)
        empty_mb = _heap_mb(devtools)
        say(f"console: {scale.console_jobs:,} jobs".replace(",", " "))
        _send(server.port, scale.console_jobs)
        shown = f"{scale.console_jobs} of {scale.console_jobs}"
        try:
            page.get_by_text(shown, exact=True).wait_for()
        except Exception as error:
            raise NotMeasured(f"the page does not show {shown} jobs") from error
        full_mb = _heap_mb(devtools)
        report.add(
            "console",
            Figure(name="memory of the page, no job", value=empty_mb, unit="MB"),
            Figure(name=f"memory, {scale.console_jobs} jobs", value=full_mb, unit="MB"),
        )
        report.add("console", *_frames(page, server.port, scale.load_s * scale.rounds))
        browser.close()


def _size_kb() -> float:
    """Of what a browser may load."""
    kinds = {".js", ".css", ".html", ".svg"}
    files = [file for file in _FILES.rglob("*") if file.suffix in kinds]
    return sum(len(gzip.compress(file.read_bytes())) for file in files) / 1000


def _start_ms(page: Page, address: str) -> tuple[float, float]:
    """First paint, and when it can be used, ms from its request."""
    page.add_init_script(_READY)
    page.goto(address)
    page.locator("#state").get_by_text("Ready").wait_for()
    page.locator(".list").wait_for()
    # A frame later it has been noted, and painted.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    return float(paint), float(page.evaluate("window.usableAfterMs"))


def _heap_mb(devtools: CDPSession) -> float:
    devtools.send("HeapProfiler.collectGarbage")
    usage: dict[str, Any] = devtools.send("Runtime.getHeapUsage")
    return float(usage["usedSize"]) / 1e6


def _send(port: int, count: int, per_s: float | None = None) -> None:
    """Submit jobs, all at once or so many a second."""
    connection = HTTPConnection(HOST, port, timeout=_SHOWN_WITHIN_MS / 1000)
    began_s = monotonic()
    for number in range(count):
        if per_s is not None and (early_s := began_s + number / per_s - monotonic()) > 0:
            sleep(early_s)
        connection.request("POST", "/v2/bench/run", _BODY, {"Authorization": "Bearer bench"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise NotMeasured(f"/run answered {answer.status}: {answer.read()[:200]!r}")
        answer.read()
    connection.close()


def _frames(page: Page, port: int, seconds: float) -> list[Figure]:
    """How long frames take while events arrive and all jobs are shown."""
    events = 3 * _JOBS_PER_S
    say(f"console: {events} events/s for {seconds:g} s")
    sender = threading.Thread(target=_send, args=(port, round(_JOBS_PER_S * seconds), _JOBS_PER_S))
    page.evaluate(_FRAMES)
    sender.start()
    while sender.is_alive():
        page.wait_for_timeout(100)
    frames_ms: list[float] = page.evaluate("window.frames_ms")
    cuts = quantiles(frames_ms, n=100)
    return [
        Figure(name=f"frame, {events} events/s, p50", value=median(frames_ms), unit="ms"),
        Figure(name=f"frame, {events} events/s, p99", value=cuts[98], unit="ms", target=Target.at_most(50)),
        Figure(name=f"frame, {events} events/s, longest", value=max(frames_ms), unit="ms"),
    ]
