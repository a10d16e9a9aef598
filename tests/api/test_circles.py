"""A request leaves nothing for the garbage collector."""

import gc

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tests.api.client import served

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "path", ["/v2/ep/health", "/v2/ep/nothing", "/v2/no-such/health", "/_emulator/health"]
)
async def test_a_request_that_has_been_answered_leaves_no_circle(path):
    async with served() as client:
        await client.http.get(path)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await client.http.get(path)
            left = sum(isinstance(each, RequestResponseCycle) for each in gc.get_objects())
        finally:
            gc.enable()
    # The connection knows its last.
    assert left <= 2
