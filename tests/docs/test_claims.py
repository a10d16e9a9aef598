"""What the pages say of the SDKs, and of what is not emulated, is so in the versions that are installed."""

import importlib.metadata
import os
import re
import subprocess
import sys
from threading import Event

import httpx
import pytest
import runpod
from runpod.serverless.modules import rp_fastapi

from emulator import Emulator
from tests.conformance.js_client import node
from tests.conformance.served import HERE as NODE_PROJECT
from tests.conformance.served import environment
from tests.docs.pages import text_of
from tests.limits import PATIENCE_S

PRODUCTION = "https://api.runpod.ai/v2"


class TestPythonSDK:
    """docs/connect.md, Python SDK."""

    @pytest.fixture(autouse=True)
    def _key(self, monkeypatch):
        monkeypatch.setattr(runpod, "api_key", "anything")

    def test_it_retries_on_http_alone(self):
        session = runpod.Endpoint("any").rp_client.rp_session
        plain, secure = (session.adapters[prefix].max_retries for prefix in ("http://", "https://"))
        assert (plain.total, set(plain.status_forcelist)) == (5, {408, 429})
        assert secure.total == 0
        assert plain.is_retry("GET", 429, has_retry_after=True)
        assert not plain.is_retry("POST", 429, has_retry_after=True)

    def test_a_server_that_is_not_there_is_asked_for_half_a_minute(self):
        retries = runpod.Endpoint("any").rp_client.rp_session.adapters["http://"].max_retries
        waited_s = 0.0
        for _ in range(retries.total):
            retries = retries.increment("POST", "/", error=ConnectionRefusedError())
            waited_s += retries.get_backoff_time()
        assert waited_s == 30

    def test_an_endpoint_keeps_the_url_it_was_made_with(self, monkeypatch):
        endpoint = runpod.Endpoint("any")
        before = endpoint.rp_client.endpoint_url_base
        monkeypatch.setattr(runpod, "endpoint_url_base", "http://127.0.0.1:1/v2")
        assert endpoint.rp_client.endpoint_url_base == before
        assert runpod.Endpoint("any").rp_client.endpoint_url_base == "http://127.0.0.1:1/v2"

    def test_the_variable_is_read_once_and_the_key_is_no_variable(self, tmp_path):
        """In a process of its own, as it is about the import."""
        program = (
            "import os, runpod; os.environ['RUNPOD_ENDPOINT_BASE_URL'] = 'http://late';"
            "print(runpod.endpoint_url_base, runpod.api_key)"
        )
        printed = subprocess.check_output(
            [sys.executable, "-c", program],
            env=environment(tmp_path, RUNPOD_API_KEY="anything"),
            text=True,
            timeout=PATIENCE_S,
        )
        assert printed.split() == [PRODUCTION, "None"]


def test_the_javascript_sdk_calls_production_when_it_is_not_told(tmp_path):
    program = """
        import sdk from "runpod-sdk";
        console.log(sdk("any", { baseUrl: undefined }).baseUrl, sdk("any").baseUrl);
    """
    printed = subprocess.check_output(
        [node(), "--input-type=module", "--eval", program],
        cwd=NODE_PROJECT,
        env=environment(tmp_path, RUNPOD_ENDPOINT_BASE_URL="http://127.0.0.1:1/v2"),
        text=True,
        timeout=PATIENCE_S,
    )
    assert printed.split() == [PRODUCTION, PRODUCTION]


class TestDevServer:
    """docs/moving.md, what the dev server does."""

    @pytest.fixture
    def calls(self):
        """The inputs with which the handler was called."""
        return []

    @pytest.fixture
    def hooked(self, monkeypatch):
        """The bodies of the webhooks; waiting for one says whether it came."""
        sent, came = [], Event()
        monkeypatch.setattr(rp_fastapi, "_send_webhook", lambda _url, body: (sent.append(body), came.set()))
        return lambda: sent if came.wait(PATIENCE_S) else None

    @pytest.fixture
    def server(self, calls, monkeypatch):
        monkeypatch.setattr(rp_fastapi.heartbeat, "start_ping", lambda _mirror: None)

        def handler(job):
            calls.append(job)
            if job["input"].get("raise"):
                raise ValueError
            return job["input"].get("output", {"n": 1})

        return self.client(handler)

    @staticmethod
    def client(handler):
        app = rp_fastapi.WorkerAPI({"handler": handler}).rp_app
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://dev")

    def test_the_page_names_the_version(self):
        version = ".".join(importlib.metadata.version("runpod").split(".")[:2])
        assert f"dev server of runpod {version} does" in text_of("docs/moving.md")

    @pytest.mark.anyio
    async def test_a_job_runs_when_its_status_is_asked_for_and_then_is_gone(self, server, calls):
        queued = (await server.post("/run", json={"input": {"a": 1}})).json()
        assert queued["status"] == "IN_PROGRESS"
        assert queued["id"].startswith("test-")
        assert not calls
        url = f"/status/{queued['id']}"
        assert (await server.get(url)).status_code == 405
        assert not calls
        assert (await server.post(url)).json() == {
            "id": queued["id"],
            "status": "COMPLETED",
            "output": {"n": 1},
        }
        assert calls == [{"id": queued["id"], "input": {"a": 1}, "webhook": None}]
        again = await server.post(url)
        assert again.status_code == 200
        assert again.json() == {"id": queued["id"], "status": "FAILED", "error": "Job ID not found"}

    @pytest.mark.anyio
    async def test_what_it_refuses(self, server):
        assert (await server.post("/runsync", json={"input": "text"})).status_code == 422
        assert (await server.post("/runsync", content='{"input": {}}')).status_code == 422
        assert (await server.post("/runsync", json={"input": {"output": {}}})).status_code == 500
        for path in ("status-sync/x", "cancel/x", "retry/x", "purge-queue", "v2/local/run"):
            assert (await server.post(f"/{path}")).status_code == 404
        for path in ("health", "requests"):
            assert (await server.get(f"/{path}")).status_code == 404

    @pytest.mark.anyio
    async def test_a_webhook_is_sent_after_success_alone_with_the_output_alone(self, server, hooked):
        failed = {"input": {"raise": True}, "webhook": "http://failed"}
        assert (await server.post("/runsync", json=failed)).json()["status"] == "FAILED"
        await server.post("/runsync", json={"input": {"a": 1}, "webhook": "http://done"})
        assert hooked() == [{"output": {"n": 1}}]

    @pytest.mark.anyio
    async def test_a_stream_comes_in_one_piece(self, server, hooked):
        def generator(_job):
            yield from "ab"

        streaming, chunks = self.client(generator), [{"output": "a"}, {"output": "b"}]
        job_id = (await streaming.post("/run", json={"input": {}, "webhook": "http://done"})).json()["id"]
        assert (await streaming.get(f"/stream/{job_id}")).status_code == 405
        streamed = (await streaming.post(f"/stream/{job_id}")).json()
        assert (streamed["status"], streamed["stream"]) == ("COMPLETED", chunks)
        assert hooked() == [chunks]
        assert (await streaming.post("/runsync", json={"input": {}})).json()["output"] == ["a", "b"]
        job_id = (await server.post("/run", json={"input": {}})).json()["id"]
        assert (await server.post(f"/stream/{job_id}")).json()["status"] == "FAILED"


@pytest.mark.anyio
async def test_an_operation_said_not_to_be_emulated_is_not():
    """Once it is, docs/not-emulated.md has a line too many."""
    first_table = text_of("docs/not-emulated.md").partition("## The rest")[0]
    listed = re.findall(r"^\| `/([a-z-]+)", first_table, re.MULTILINE)
    assert listed == ["batch"]
    async with Emulator({"any": None}) as emulator:
        transport = httpx.ASGITransport(emulator.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for name in listed:
                answer = await client.get(f"/v2/any/{name}", headers={"Authorization": "Bearer any"})
                assert answer.status_code == 404
                assert "does not emulate it" in answer.json()["detail"]


def test_calls_that_manage_endpoints_do_not_go_where_the_variable_says(monkeypatch):
    """docs/not-emulated.md: they go to production."""
    asked = []

    def post(url, **_):
        asked.append(url)
        return httpx.Response(200, json={"data": {"myself": {"endpoints": []}}})

    monkeypatch.setattr("runpod.api.graphql.requests.post", post)
    monkeypatch.setattr(runpod, "api_key", "anything")
    monkeypatch.setattr(runpod, "endpoint_url_base", "http://127.0.0.1:1/v2")
    assert "RUNPOD_API_BASE_URL" not in os.environ
    assert runpod.get_endpoints() == []
    assert asked == ["https://api.runpod.io/graphql"]
