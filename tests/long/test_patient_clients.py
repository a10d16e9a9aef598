"""Clients of the SDKs that wait for more than a minute: for a result, and at a stream."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import runpod

from tests.conformance.js_client import JSClient, node_process
from tests.limits import PATIENCE_S
from tests.long.long_handlers import pieces
from tests.long.workers import long_workers

SECONDS = 65
KINDS = ["function", "script"]
CHUNKS = [{"chunk": number} for number in range(len(list(pieces(SECONDS))))]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Looks up what a client was told; all of them wait at once."""
    folder = tmp_path_factory.mktemp("patient")
    job_input = {"input": {"seconds": SECONDS, "log": str(folder / "log")}}
    with (
        pytest.MonkeyPatch.context() as patch,
        long_workers(folder, KINDS, ["sync", "generator"], workers=2) as http,
        node_process(folder) as node,
        ThreadPoolExecutor(4 * len(KINDS)) as pool,
    ):
        base = f"{str(http.base_url).rstrip('/')}/v2"
        patch.setenv("NO_PROXY", "*")
        patch.setattr(runpod, "endpoint_url_base", base)
        patch.setattr(runpod, "api_key", "x")
        js = JSClient(node, base, "x")

        def python_stream(endpoint_id):
            return list(runpod.Endpoint(endpoint_id).run(job_input).stream())

        def js_stream(endpoint_id):
            job = js.call(endpoint_id, "run", job_input)
            return [chunk["output"] for chunk in js.stream(endpoint_id, job["id"])]

        asked = {}
        for kind in KINDS:
            sync, generator = f"{kind}-sync", f"{kind}-generator"
            asked["python", "result", kind] = pool.submit(
                runpod.Endpoint(sync).run_sync, job_input, timeout=PATIENCE_S
            )
            asked["javascript", "result", kind] = pool.submit(
                lambda endpoint_id: js.call(endpoint_id, "runSync", job_input)["output"], sync
            )
            asked["python", "stream", kind] = pool.submit(python_stream, generator)
            asked["javascript", "stream", kind] = pool.submit(js_stream, generator)
        yield lambda *which: asked[which].result(PATIENCE_S)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sdk", ["python", "javascript"])
def test_a_result_that_takes_more_than_a_minute(told, sdk, kind):
    assert told(sdk, "result", kind) == SECONDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sdk", ["python", "javascript"])
def test_a_stream_that_takes_more_than_a_minute(told, sdk, kind):
    assert told(sdk, "stream", kind) == CHUNKS
