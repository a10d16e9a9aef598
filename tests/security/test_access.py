"""Who may do what: S1 to S12 of docs/security.md, by requests that try it (attack.md 1, 21, 22, 23)."""

import asyncio
import re
import socket
import sys
from itertools import product
from pathlib import Path

import httpx
import pytest

from emulator import Emulator
from emulator.settings import CODE_TOKEN_VARIABLE
from tests.api.client import an_emulator, secret_of, served
from tests.cli.command import run, serving
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]

#: One request for each thing the control API can do.
CONTROL = [
    ("GET", "/_emulator"),
    ("GET", "/_emulator/docs"),
    ("GET", "/_emulator/openapi.json"),
    ("GET", "/_emulator/jobs"),
    ("GET", "/_emulator/journal"),
    ("GET", "/_emulator/workers"),
    ("GET", "/_emulator/clock"),
    ("POST", "/_emulator/clock/freeze"),
    ("POST", "/_emulator/reset"),
    ("POST", "/_emulator/faults"),
    ("PUT", "/_emulator/endpoints/x"),
    ("DELETE", "/_emulator/endpoints/ep"),
    ("GET", "/_emulator/sinks/hook"),
    ("PUT", "/_emulator/sinks/hook/answers"),
    ("GET", "/_emulator/nothing"),
    ("GET", "/_emulator/health/"),
    ("GET", "/_emulator/sinks"),
]
CODE = {
    "handler": "timeit.py",
    "command": ["id"],
    "workdir": "/",
    "python": "/bin/sh",
    "worker_env": {"A": "b"},
    "worker_args": ["-n1"],
}


def refused(folder, *arguments, **variables):
    ended = run(folder, "serve", *arguments, **variables)
    assert ended.returncode != 0
    assert "Ready." not in ended.stdout
    return ended


def keyed(**more):
    return {"api_keys": ["right"], **more}


def with_key(key):
    return {"authorization": f"Bearer {key}"}


async def test_s1_without_keys_anybody_on_this_machine_may_use_it():
    async with served() as client:
        assert (await client.runsync())["status"] == "COMPLETED"
        assert (await client.http.get("/_emulator/jobs", headers={"authorization": ""})).status_code == 200


@pytest.mark.parametrize(("method", "path"), CONTROL)
async def test_s2_with_keys_the_control_api_asks_for_one(method, path):
    async with served(options=keyed()) as client:
        for headers in ({"authorization": ""}, with_key("wrong")):
            answer = await client.http.request(method, path, headers=headers, json={})
            assert answer.status_code == 401
            assert set(answer.json()) == {"error"}
        passed = await client.http.request(method, path, headers=with_key("right"), json={})
        assert passed.status_code not in (401, 403)


async def test_s2_what_has_to_be_open_is():
    async with served(options=keyed()) as client:
        for path in ("/_emulator/health", "/_emulator/ready"):
            assert (await client.http.get(path, headers={"authorization": ""})).status_code == 200
        await client.http.get("/_emulator/sinks/hook", headers=with_key("right"))
        told = await client.http.post("/_emulator/sink/hook", headers={"authorization": ""}, json={})
        assert told.status_code == 200


async def test_s2_nobody_fills_the_memory_with_sinks_that_no_one_has_named():
    async with served(options=keyed()) as client:
        told = await client.http.post("/_emulator/sink/stranger", headers={"authorization": ""}, json={})
        assert told.status_code == 404


async def test_s3_a_workers_id_is_not_its_secret():
    """The attack: take its job, forge its result."""
    async with served(lambda job: job["input"], options=keyed(), workers_min=1) as client:
        client.http.headers["authorization"] = "Bearer right"
        workers = (await client.http.get("/_emulator/workers")).json()["workers"]
        worker_id = workers[0]["id"]
        paths = [
            f"/job-take/{worker_id}",
            f"/job-done/{worker_id}/x",
            f"/ping/{worker_id}",
            f"/job-stop/{worker_id}",
        ]
        queries = ("", "?started=here", "?secret=", f"?secret={worker_id}", "?secret=" + "0" * 32)
        # All at once: a refusal is held back for a second.
        answers = await asyncio.gather(
            *(
                client.http.request(
                    "POST" if "done" in path else "GET",
                    client.prefix + path + query,
                    headers={"authorization": key},
                    json={},
                )
                for path, query, key in product(paths, queries, ("", "wrong"))
            )
        )
        assert {answer.status_code for answer in answers} == {401}
        mine = f"{client.prefix}/ping/{worker_id}?secret={secret_of(client, worker_id)}"
        assert (await client.http.get(mine, headers={"authorization": "another-key"})).status_code == 200
        other = f"{client.prefix}/ping/{worker_id}?secret={secret_of(client, 'other')}"
        assert (await client.http.get(other, headers={"authorization": "another-key"})).status_code == 401


async def test_s4_a_worker_from_elsewhere_brings_a_key():
    async with served(options=keyed(), worker_kind="external") as client:
        client.http.headers["authorization"] = "right"
        job_id = await client.run()
        answer = await client.get("/job-take/mine?job_in_progress=0", headers={"authorization": "right"})
        assert answer.json()["id"] == job_id
        assert (await client.get("/job-take/mine", headers={"authorization": "x"})).status_code == 401


@pytest.mark.parametrize("setting", CODE)
async def test_s5_what_workers_run_cannot_be_set_over_http(setting):
    async with served() as client:
        body = {"worker_kind": "process", setting: CODE[setting]}
        answer = await client.http.put("/_emulator/endpoints/x", json=body)
        assert answer.status_code == 403
        assert "--allow-code-over-http" in answer.json()["error"]["message"]
        wrong = {"x-emulator-code-token": "guessed"}
        assert (await client.http.put("/_emulator/endpoints/x", json=body, headers=wrong)).status_code == 403
        assert client.emulator.endpoint_ids == ["ep"]
        stubs = {"clock": "frozen", "workers_max": 1}
        assert (await client.http.put("/_emulator/endpoints/x", json=stubs)).status_code == 200


def test_s6_a_fixture_may(endpoint_of_a_fixture):
    assert endpoint_of_a_fixture.runsync({"a": 1})["status"] == "COMPLETED"


@pytest.fixture
def endpoint_of_a_fixture():
    with Emulator().serve() as client:
        yield client.create_endpoint(handler=str(ROOT / "handlers/echo.py"))


def test_s6_the_command_of_exec_may(tmp_path):
    program = (
        "import os; from emulator import EmulatorClient;"
        f"c = EmulatorClient(os.environ['EMULATOR_URL'], code_token=os.environ['{CODE_TOKEN_VARIABLE}']);"
        f"e = c.create_endpoint(handler={str(ROOT / 'handlers/echo.py')!r});"
        "print(e.runsync({'a': 1})['status'])"
    )
    done = run(tmp_path, "exec", "--", sys.executable, "-c", program)
    assert done.stdout.strip() == "COMPLETED", done.stderr


async def test_s7_whoever_was_allowed_to_may():
    async with served(options={"code_over_http": True}) as client:
        answer = await client.http.put(
            "/_emulator/endpoints/x", json={"handler": str(ROOT / "handlers/echo.py")}
        )
        assert answer.status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gpu-box"])
def test_s8_beyond_this_machine_a_key_is_needed(tmp_path, host):
    ended = refused(tmp_path, "--host", host, "--port", "0")
    assert f"--host {host} is reached by other machines" in ended.stderr
    assert "--insecure" in ended.stderr


def test_s8_with_a_key_or_the_word_it_starts(tmp_path):
    for option in (["--insecure"], ["--api-key", "k"]):
        with serving(tmp_path, "--host", "0.0.0.0", *option) as emulator:
            assert emulator.request("GET", "/_emulator/health").status_code == 200


@pytest.mark.parametrize("listening", ["127.0.0.1", "0.0.0.0"])
async def test_s9_a_name_that_was_pointed_here_does_not_pass(listening):
    emulator = an_emulator(None, {"allow_hosts": ["given.example"]}, {})
    async with (
        emulator,
        emulator.serve(listening) as url,
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http,
    ):

        async def status(host, **headers):
            sent = {"authorization": "k", "host": host, **headers}
            body = {"workers_max": 1}
            return (await http.put(f"{url}/_emulator/endpoints/r", headers=sent, json=body)).status_code

        for host in ("evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "1.2.3.4.5"):
            assert await status(host) == 403
            # The re-pointed page is of the same origin as far as it can tell.
            assert await status(host, origin=f"http://{host}") == 403
        for host in ("127.0.0.1:1", "[::1]", "10.1.2.3:8000", "localhost", "a.localhost", "emulator:8000",
                     "given.example", "GIVEN.example.", socket.gethostname()):  # fmt: skip
            assert await status(host) == 200
        assert await status("ep.api.runpod.ai") == (200 if listening == "127.0.0.1" else 403)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/ep/job-take/evil"),
        ("POST", "/v2/ep/run"),
        ("POST", "/_emulator/reset"),
        ("GET", "/v2/ep/stream/x"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ],
)
async def test_s10_a_page_from_elsewhere_changes_nothing(method, path, headers):
    async with served(options={"auth": False}, worker_kind="external") as client:
        job_id = await client.run()
        answer = await client.http.request(method, path, headers=headers, json={"input": 1})
        assert answer.status_code == 403
        assert (await client.status(job_id))["status"] == "IN_QUEUE"
        assert (await client.jobs())["inQueue"] == 1


async def test_s10_a_link_to_the_documentation_may_be_followed():
    async with served() as client:
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert (await client.http.get("/_emulator/docs", headers=headers)).status_code == 200


@pytest.mark.parametrize("target", ["/_emulator/reset", "/_emulator/clock/freeze", "/v2/ep/run", "/run"])
async def test_s11_a_webhook_cannot_drive_the_emulator_it_comes_from(target):
    async with served(lambda job: 1) as client:
        port = client.http.base_url.port
        webhook = f"http://u:p@127.0.0.1:{port}{target}"
        job_id = await client.run(webhook=webhook)
        await client.ended(job_id)
        await client.clock.advance(60_000)
        attempts = (await client.http.get("/_emulator/webhooks")).json()["webhooks"][0]["attempts"]
        assert [attempt["status"] for attempt in attempts] == [403, 403, 403]
        assert (await client.jobs())["completed"] == 1
        assert client.clock.mode == "frozen"


async def test_s11_nor_can_one_that_is_sent_again_to_another_url():
    async with served(lambda job: 1) as client:
        base = f"http://127.0.0.1:{client.http.base_url.port}"
        await client.ended(await client.run(webhook=f"{base}/_emulator/sink/hook"))
        await client.clock.advance(1)
        url = f"{base}/_emulator/reset?token=secret"
        again = await client.http.post("/_emulator/webhooks/1/redeliver", json={"url": url})
        assert again.status_code == 200, again.text
        await client.clock.advance(60_000)
        assert (await client.jobs())["completed"] == 1
        told = (await client.http.get("/_emulator/webhooks")).text
        assert '"status":403' in told
        journal = (await client.http.get("/_emulator/journal")).text
        assert "token=secret" not in told + journal


async def test_s11_a_webhook_reaches_a_sink():
    async with served(lambda job: 1, options=keyed()) as client:
        client.http.headers["authorization"] = "right"
        url = (await client.http.get("/_emulator/sinks/hook")).json()["url"]
        await client.ended(await client.run(webhook=url))
        await client.clock.settle()
        waited = await client.http.post("/_emulator/sinks/hook/wait", json={"count": 1})
        assert waited.json()["count"] == 1


@pytest.mark.parametrize("value", ["", " "])
def test_s12_an_empty_key_is_a_mistake(tmp_path, value):
    ended = refused(tmp_path, "--port", "0", EMULATOR_API_KEY=value)
    assert "EMULATOR_API_KEY is empty" in ended.stderr
    ended = refused(tmp_path, "--port", "0", "--api-key", value)
    assert "an API key is empty" in ended.stderr


def test_every_row_of_the_page_has_a_test():
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| (S\d+) \|", page, re.MULTILINE))
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert rows
    assert {row for row in rows if f"def test_{row.lower()}_" not in tests} == set()
