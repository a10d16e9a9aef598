"""What people do in the console, in a real browser."""

from __future__ import annotations

import base64
import json
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import expect

from emulator import Emulator, EndpointConfig
from tests.console.conftest import Endpoint, at
from tests.console.handlers import handle
from tests.pipelining import submit_many

EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


def test_a_newcomer_sends_a_request_and_watches_it_complete(open_page, url):
    page = open_page(f"{url}/")
    page.get_by_role("button", name="Run", exact=True).click()
    output = page.get_by_role("region", name="Output")
    expect(output.get_by_text("COMPLETED")).to_be_visible()
    expect(output).to_contain_text("Hello World")
    expect(page.get_by_role("list", name="Jobs").get_by_text("COMPLETED").first).to_be_visible()
    expect(page.locator("#state")).to_contain_text("Ready")


def test_a_stream_is_read_as_it_comes(open_page, make_endpoint):
    endpoint = make_endpoint(handler="tests.console.handlers:count_up")
    page = open_page(at(endpoint))
    _type(page, '{"input": {"to": 3}}')
    page.get_by_label("Stream response").check()
    page.get_by_role("button", name="Run", exact=True).click()
    output = page.get_by_role("region", name="Output")
    expect(output.get_by_label("Stream")).to_have_text("piece 0 piece 1 piece 2 ")
    output.get_by_role("link").first.click()
    expect(page.get_by_role("region", name="Stream").get_by_text("piece 0 piece 1")).to_be_visible()


def test_a_failure_is_shown_with_its_traceback(open_page, endpoint):
    job_id = endpoint.run({"fail": "today"})
    page = open_page(at(endpoint, f"requests/{job_id}"))
    expect(page.get_by_text("ValueError: out of luck: today").first).to_be_visible()
    expect(page.get_by_role("region", name="Traceback")).to_contain_text("raise ValueError")


def test_a_job_is_cancelled(open_page, make_endpoint):
    endpoint = make_endpoint(handler="tests.console.handlers:handle", workers_max=0)
    job_id = endpoint.run({"n": 1})
    page = open_page(at(endpoint, f"requests/{job_id}"))
    expect(page.get_by_text("workersMax is 0").first).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_label("Timeline").get_by_text("CANCELLED", exact=True)).to_be_visible()


def test_a_failed_job_is_retried(open_page, endpoint):
    job_id = endpoint.runsync({"fail": "once"})["id"]
    endpoint.control("PATCH", f"/endpoints/{endpoint.id}", json={"workers_max": 0})
    page = open_page(at(endpoint, f"requests/{job_id}"))
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_label("Timeline").get_by_text("IN_QUEUE", exact=True)).to_be_visible()
    expect(page.get_by_text("Attempt 2")).to_be_visible()


def test_a_request_is_edited_and_run_again(open_page, endpoint):
    job_id = endpoint.runsync({"word": "first"})["id"]
    page = open_page(at(endpoint, f"requests/{job_id}"))
    page.get_by_role("button", name="Edit and run again").click()
    expect(page.get_by_text(f"edits {job_id}")).to_be_visible()
    _type(page, '{"input": {"word": "second"}}')
    page.get_by_role("button", name="Run", exact=True).click()
    output = page.get_by_role("region", name="Output")
    expect(output).to_contain_text("second")
    output.get_by_role("link").first.click()
    expect(page.get_by_role("link", name=job_id)).to_be_visible()


def test_a_webhook_is_sent_again_elsewhere(open_page, endpoint):
    sink = f"{endpoint.url}/_emulator/sink/{endpoint.id}"
    endpoint.runsync({"n": 1}, webhook=sink)
    endpoint.control("POST", f"/sinks/{endpoint.id}/wait", json={})
    page = open_page(at(endpoint, "webhooks"))
    row = page.get_by_role("row").filter(has_text=endpoint.id)
    row.get_by_role("link").first.click()
    page.get_by_label("Another URL").fill(f"{sink}-other")
    page.get_by_role("button", name="Redeliver", exact=True).first.click()
    received = endpoint.control("POST", f"/sinks/{endpoint.id}-other/wait", json={})
    assert received["deliveries"][0]["body"]["output"] == {"echo": {"n": 1}}
    expect(page.get_by_label("Sinks").get_by_text(f"{endpoint.id}-other", exact=True)).to_be_visible()


def test_the_clock_is_advanced_until_a_job_times_out(open_page, make_endpoint):
    endpoint = make_endpoint(clock="frozen", workers_max=0)
    endpoint.run({"n": 1}, policy={"ttl": 60_000})
    page = open_page(at(endpoint, "time"))
    expect(page.get_by_label("Next timers").get_by_text("ttl")).to_be_visible()
    page.get_by_label("Advance by, s").fill("60")
    page.get_by_role("button", name="Advance", exact=True).click()
    expect(page.get_by_label("Next timers").get_by_text("ttl")).to_have_count(0)
    page.get_by_role("link", name="Requests", exact=True).click()
    expect(page.get_by_role("list", name="Jobs").get_by_text("TIMED_OUT")).to_be_visible()


def test_a_worker_is_killed_and_the_timeline_shows_the_lost_attempt(open_page, make_endpoint):
    endpoint = make_endpoint(clock="frozen", workers_max=1)
    job_id = endpoint.run({"mock_delay": 60})
    page = open_page(at(endpoint, "workers"))
    expect(page.get_by_label("Workers").get_by_text("running", exact=True)).to_be_visible()
    page.get_by_role("button", name="Kill worker").click()
    expect(page.get_by_label("Workers").get_by_text("unhealthy", exact=True)).to_be_visible()
    page.goto(at(endpoint, f"requests/{job_id}"))
    expect(page.get_by_role("img", name="attempt 1: LOST")).to_be_visible()
    expect(page.get_by_text("killed by hand").first).to_be_visible()


def test_mistakes_are_told_while_typing(open_page, endpoint):
    page = open_page(at(endpoint))
    advice = page.get_by_label("What production would say")
    _type(page, '{"input": {}}')
    expect(advice).to_contain_text("never receives {}")
    _type(page, '{"input": {"n": 1}, "webhok": "http://x", "policy": {"executionTimeout": 5000}}')
    expect(advice).to_contain_text("webhook is meant")
    expect(advice).to_contain_text("more than 5000 ms")


def test_several_jobs_are_cancelled_at_once_and_exported_as_they_are_filtered(open_page, make_endpoint):
    endpoint = make_endpoint(handler="tests.console.handlers:handle", workers_max=0)
    ids = [endpoint.run({"n": n}) for n in range(3)]
    page = open_page(at(endpoint))
    requests = page.get_by_role("region", name="Requests")
    for job_id in ids[:2]:
        requests.get_by_label(f"Select job {job_id}").check()
    expect(requests).to_contain_text("2 selected")
    requests.get_by_role("button", name="Cancel").click()
    expect(requests.get_by_text("CANCELLED", exact=True).and_(page.locator(".badge"))).to_have_count(2)
    requests.get_by_label("State").select_option("CANCELLED")
    expect(requests.get_by_role("link", name=ids[2])).to_have_count(0)
    with page.expect_download() as download:
        requests.get_by_role("button", name="JSON lines").click()
    exported = Path(download.value.path()).read_text().splitlines()
    assert {json.loads(line)["id"] for line in exported} == set(ids[:2])


def test_a_request_is_copied_as_code_and_saved_as_a_test(open_page, endpoint):
    page = open_page(at(endpoint), permissions=["clipboard-read", "clipboard-write"])
    page.get_by_label("Language").select_option("Python")
    page.get_by_label("For", exact=True).select_option("production")
    page.get_by_role("button", name="Copy", exact=True).first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert 'runpod.endpoint_url_base = "https://api.runpod.ai/v2"' in copied
    compile(copied, "copied.py", "exec")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as test").click()
    saved = json.loads(Path(download.value.path()).read_text())
    assert saved == {"name": "test", "input": {"prompt": "Hello World"}, "timeout": 10_000}


def test_logs_are_followed_paused_and_searched(open_page, url):
    script = "import runpod\nrunpod.serverless.start({'handler': lambda job: print('told', job['input'])})\n"
    with TemporaryDirectory() as folder:
        Path(folder, "handler.py").write_text(script)
        handler = EndpointConfig(handler=f"{folder}/handler.py", worker_kind="process")
        with Emulator({"ep": handler}).serve() as client:
            endpoint = Endpoint(str(client.url), "ep")
            page = open_page(at(endpoint, "logs"), expects="net::ERR")
            log = page.get_by_role("log", name="Logs")
            endpoint.runsync("first")
            expect(log).to_contain_text("told first")
            page.get_by_role("button", name="Following").click()
            endpoint.runsync("second")
            page.get_by_role("button", name="Paused: follow").click()
            expect(log).to_contain_text("told second")
            page.get_by_label("Search the logs").fill("told second")
            expect(page.get_by_text("1 lines", exact=True)).to_be_visible()
            expect(log.locator("mark")).to_have_text("told second")


def test_two_jobs_are_compared(open_page, endpoint):
    ids = [endpoint.runsync({"n": n})["id"] for n in (1, 2)]
    page = open_page(at(endpoint, f"requests/compare/{'/'.join(ids)}"))
    expect(page.get_by_text("Output (differs)").first).to_be_visible()
    for job_id in ids:
        expect(page.get_by_label(f"Job {job_id}")).to_be_visible()


def test_keys_lead_everywhere(open_page, endpoint):
    job_id = endpoint.runsync({"n": 1})["id"]
    page = open_page(at(endpoint))
    expect(page.get_by_role("link", name=job_id)).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Timeline").get_by_text(job_id)).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("nothing is like this")
    expect(page.get_by_text("No jobs.")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.keyboard.press("/")
    page.keyboard.type(job_id)
    expect(page.get_by_label("Search jobs")).to_have_value(job_id)
    page.go_back()
    expect(page).to_have_url(at(endpoint, "overview"))
    expect(page.get_by_role("link", name="Overview")).to_have_attribute("aria-current", "page")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()


def test_nothing_that_was_sent_is_rendered_as_html(open_page, make_endpoint):
    endpoint = make_endpoint(handler="tests.console.handlers:handle")
    sink = f"{endpoint.url}/_emulator/sink/{endpoint.id}"
    endpoint.control(
        "PUT", f"/sinks/{endpoint.id}/answers", json={"answers": [{"status": 200, "body": EVIL}]}
    )
    fine = endpoint.runsync({EVIL: EVIL, "url": "https://example.com/x.png"}, webhook=sink)["id"]
    bad = endpoint.runsync({"fail": EVIL})["id"]
    endpoint.control("POST", "/journal/wait", json={"kind": "webhook", "job": fine})
    page = open_page(at(endpoint))
    expect(page.get_by_text("out of luck").first).to_be_visible()
    for path in (f"requests/{fine}", f"requests/{bad}", "webhooks", f"requests/compare/{fine}/{bad}", "logs"):
        page.goto(at(endpoint, path))
        expect(page.locator("main .panel").first).to_be_visible()
        assert page.locator("main script, main img[onerror]").count() == 0
    page.goto(at(endpoint, f"requests/{fine}"))
    expect(page.get_by_text(EVIL).first).to_be_visible()


def test_ten_thousand_jobs_are_listed_with_few_rows(open_page):
    emulator = Emulator({"many": EndpointConfig(handler=handle, workers_max=0)}, rate_limits=False)
    with emulator.serve() as client:
        endpoint = Endpoint(str(client.url), "many")
        page = open_page(at(endpoint), expects="net::ERR")
        expect(page.locator("#state")).to_contain_text("Ready")
        submit_many(f"{client.url}/v2/many/run", ({"n": n} for n in range(10_000)))
        expect(page.get_by_text("10000 of 10000")).to_be_visible()
        assert page.locator(".jobrow").count() < 60
        page.locator(".list").evaluate("list => { list.scrollTop = list.scrollHeight }")
        expect(page.locator(".jobrow").filter(has_text='{"n": 0}')).to_be_visible()


def test_what_happens_while_the_page_loads_anew_is_not_lost(open_page, served):
    """It does so once it hears of events. The list is from before the job, and another answer comes later."""
    endpoint = Endpoint(served(Emulator({"ep": EndpointConfig(handler=handle)})), "ep")
    page = open_page("about:blank")
    asked, lists = [], count()

    def answer_the_first(route):
        asked.append(route)
        if len(asked) == 1:
            route.continue_()

    page.route("**/_emulator/logs?*", answer_the_first)
    with page.expect_response(lambda answer: "/jobs/list?" in answer.url and next(lists) == 1):
        page.goto(at(endpoint))
    endpoint.runsync({"n": 1})
    expect(page.get_by_text("1 of 1", exact=True)).to_be_visible()
    with page.expect_response("**/_emulator/logs?*"):
        asked[1].continue_()
    endpoint.runsync({"n": 2})
    expect(page.get_by_text("2 of 2", exact=True)).to_be_visible()


def test_the_page_goes_on_when_the_server_has_restarted(open_page):
    with Emulator({"ep": EndpointConfig(handler=handle)}).serve() as client:
        endpoint = Endpoint(str(client.url), "ep")
        page = open_page(at(endpoint), expects="net::ERR")
        endpoint.runsync({"n": 1})
        expect(page.get_by_text("1 of 1", exact=True)).to_be_visible()
    expect(page.locator("#state")).to_contain_text("Not connected")
    port = int(endpoint.url.rsplit(":", 1)[1])
    with Emulator({"ep": EndpointConfig(handler=handle)}).serve(port=port):
        expect(page.locator("#state")).to_contain_text("Ready")
        expect(page.get_by_text("0 of 0", exact=True)).to_be_visible()
        job_id = endpoint.runsync({"n": 2})["id"]
        expect(page.get_by_role("link", name=job_id)).to_be_visible()


def test_a_key_is_asked_for_before_anything_is_shown(open_page, served):
    url = served(Emulator({"ep": EndpointConfig(handler=handle)}, api_keys=["the-key"]))
    page = open_page(f"{url}/", expects="401")
    dialog = page.get_by_role("dialog", name="API key")
    expect(dialog).to_be_visible()
    assert page.locator("main .panel").count() == 0
    dialog.get_by_label("API key").fill("wrong")
    dialog.get_by_role("button").click()
    expect(dialog.get_by_role("alert")).to_contain_text("invalid api key")
    dialog.get_by_label("API key").fill("the-key")
    dialog.get_by_role("button").click()
    expect(dialog).to_have_count(0)
    expect(page.locator("#state")).to_contain_text("Ready")


def test_a_page_of_another_origin_can_do_nothing(open_page, endpoint):
    with Emulator({"other": EndpointConfig(handler=handle)}).serve() as elsewhere:
        page = open_page(f"{elsewhere.url}/_emulator/health", expects="Failed to load")
        outcome = page.evaluate(
            """async (url) => {
                const request = {method: "POST", mode: "no-cors", body: '{"input": 1}'};
                return fetch(url, request).then((answer) => answer.type, () => "refused");
            }""",
            f"{endpoint.url}/v2/{endpoint.id}/run?",
        )
        assert outcome in ("opaque", "refused")
    listed = endpoint.control("GET", f"/jobs/list?endpoint={endpoint.id}")
    assert listed["jobs"] == []


def test_a_call_is_tried_in_the_documentation(open_page, url):
    page = open_page(f"{url}/_emulator/docs")
    operation = page.get_by_role("group").filter(has_text="POST /v2/{endpoint_id}/runsync").first
    operation.locator("summary").first.click()
    operation.get_by_label("Body").fill('{"input": {"word": "tried"}}')
    operation.get_by_role("button", name="Send").click()
    expect(operation.get_by_role("status")).to_contain_text("200 OK")
    expect(operation.get_by_label("Answer")).to_contain_text('"word": "tried"')


def test_the_documentation_asks_for_a_key_where_one_is_needed(open_page, served):
    url = served(Emulator({"ep": EndpointConfig(handler=handle)}, api_keys=["the-key"]))
    page = open_page(f"{url}/_emulator/docs", expects="401")
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not pass")
    page.get_by_label("API key").fill("the-key")
    page.keyboard.press("Enter")
    operation = page.get_by_role("group").filter(has_text="GET /_emulator/endpoints").first
    operation.locator("summary").first.click()
    operation.get_by_role("button", name="Send").click()
    expect(operation.get_by_label("Answer")).to_contain_text('"id": "ep"')


def test_it_is_said_when_other_machines_may_call_without_a_key(open_page, served):
    url = served(Emulator({"ep": EndpointConfig(handler=handle)}), "0.0.0.0")
    port = url.rsplit(":", 1)[1]
    page = open_page(f"http://127.0.0.1:{port}/")
    expect(page.locator("#state")).to_contain_text("open to the network, no key")


def test_stubs_are_shown_and_forgotten_one_by_one(open_page, make_endpoint):
    endpoint = make_endpoint()
    for word in ("hi", "ho"):
        stub = {"when": {"input": {"word": word}}, "returns": {"said": word}, "times": 2}
        endpoint.control("POST", f"/endpoints/{endpoint.id}/stubs", json=stub)
    endpoint.runsync({"word": "ho"})
    page = open_page(at(endpoint, "time"))
    second = page.get_by_label("Stubs").get_by_role("row").filter(has_text='{"said":"ho"}')
    expect(second).to_contain_text("1 of 2")
    page.get_by_label("Stubs").get_by_role("button", name="Forget", exact=True).first.click()
    expect(page.get_by_label("Stubs").get_by_text('{"said":"hi"}')).to_have_count(0)
    expect(second).to_be_visible()
    second.get_by_role("button", name="Forget").click()
    expect(page.get_by_text("No stubs.")).to_be_visible()


def test_media_is_shown_as_what_it_is(open_page, endpoint):
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    wav = base64.b64encode(b"RIFF\x2c\x10\0\0WAVEfmt " + bytes(60)).decode()
    job_id = endpoint.runsync({"png": png, "wav": wav})["id"]
    page = open_page(at(endpoint, f"requests/{job_id}"))
    output = page.get_by_role("region", name="Output")
    expect(output.get_by_role("img")).to_have_js_property("naturalWidth", 1)
    expect(output.locator("audio")).to_be_visible()
    output.get_by_role("button", name=f"all {len(png)} characters").click()
    expect(output).to_contain_text(png)


def test_the_list_finds_what_stands_deep_in_an_input(open_page, endpoint):
    deep = endpoint.runsync({"text": "x" * 2_000 + "needle"})["id"]
    other = endpoint.runsync({"n": 1})["id"]
    page = open_page(at(endpoint))
    expect(page.get_by_role("link", name=other)).to_be_visible()
    page.get_by_label("Search jobs").fill("needle")
    expect(page.get_by_role("link", name=other)).to_have_count(0)
    expect(page.get_by_role("link", name=deep)).to_be_visible()


@pytest.mark.parametrize("path", ["overview", "requests"])
def test_it_is_readable_at_the_width_of_a_phone(open_page, endpoint, path):
    endpoint.runsync({"n": 1})
    page = open_page(at(endpoint, path))
    page.set_viewport_size({"width": 380, "height": 800})
    expect(page.locator("main .panel").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def _type(page, text):
    editor = page.get_by_role("textbox", name="Request, JSON")
    editor.click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)
