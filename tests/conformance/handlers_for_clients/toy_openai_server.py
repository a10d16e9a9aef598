"""A small OpenAI-compatible server, as a model's: what handlers/openai_chat.py answers, over HTTP alone.

Run as a program it prints its port, and ends with whoever started it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

_MODEL = Path(__file__).parents[3] / "handlers/openai_chat.py"


def _model() -> Any:
    spec = importlib.util.spec_from_file_location("toy_model", _MODEL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_answer = _model().handler


async def answer(request: Request) -> Response:
    """Any route, as the toy model answers it."""
    body = await request.body()
    fields = json.loads(body) if body else {}
    values = _answer({"id": "0", "input": {"openai_route": request.url.path, "openai_input": fields}})
    first = await anext(values)
    if isinstance(first, dict):
        return JSONResponse(first, first.get("error", {}).get("code", 200))

    async def events() -> AsyncIterator[str]:
        yield first
        async for value in values:
            yield value

    return StreamingResponse(events(), media_type="text/event-stream")


async def main() -> None:
    """Serve until standard input ends."""
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as listener:
        # Who connects before it serves waits.
        print(listener.getsockname()[1], flush=True)
        serving = asyncio.create_task(server.serve([listener]))
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving


if __name__ == "__main__":
    asyncio.run(main())
