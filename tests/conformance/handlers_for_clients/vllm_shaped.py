"""A worker shaped as the vLLM worker is: an async generator that takes jobs by batch, before a server.

It hands on what the server sends, piece by piece as it comes, wherever events are cut.
"""

from __future__ import annotations

import codecs
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import runpod

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONCURRENCY = 30
#: Of a piece, bytes: fewer than an event has.
_PIECE = 50
_SERVER = Path(__file__).with_name("toy_openai_server.py")


async def handler(job: dict[str, Any]) -> AsyncIterator[Any]:
    """Have the model's server answer."""
    asked = job["input"]
    body = asked.get("openai_input")
    method = "POST" if body else "GET"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, MODEL_URL + asked["openai_route"], json=body or None) as answer,
    ):
        if not (body and body.get("stream")) or answer.status != 200:
            yield await answer.json()
            return
        decoder = codecs.getincrementaldecoder("utf-8")()
        async for piece in answer.content.iter_chunked(_PIECE):
            yield decoder.decode(piece)


if __name__ == "__main__":
    server = subprocess.Popen(
        [sys.executable, str(_SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    MODEL_URL = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    runpod.serverless.start(
        {
            "handler": handler,
            "concurrency_modifier": lambda _now: CONCURRENCY,
            "return_aggregate_stream": True,
        }
    )
