"""Many streams at once through the OpenAI routes, beside the same server of a model without us."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
import uvloop

from benchmarks.figure import Figure, NotMeasured
from benchmarks.report import say
from benchmarks.servers import HOST, ROOT, Server, ours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.report import Report
    from benchmarks.scale import Scale

_MODEL_SERVER = ROOT / "tests/conformance/handlers_for_clients/toy_openai_server.py"
_MODEL = ROOT / "handlers/openai_chat.py"
_STREAMS = 200
_WORDS = 100
_END = b"data: [DONE]"


def measure(report: Report, scale: Scale) -> None:
    """Read streams from the toy model's own server, and from an endpoint whose handler is the same model.

    :raises NotMeasured: a stream is not whole.
    """
    body = {"model": "toy", "stream": True, "messages": [{"role": "user", "content": " word" * _WORDS}]}
    sent = json.dumps(body).encode()
    say(f"openai_streams: {_STREAMS} streams of {_WORDS} words")
    with _model_server() as port:
        report.add("openai_streams", *_figures("direct", port, "/v1/chat/completions", sent, scale))
    with Server(ours("--workers-max", "1", handler=str(_MODEL))) as server:
        server.wait_until_ready()
        process = psutil.Process(server.pid)
        before_mb = process.memory_info().rss / 1e6
        path = "/v2/bench/openai/v1/chat/completions"
        report.add("openai_streams", *_figures("ours", server.port, path, sent, scale))
        grown_mb = process.memory_info().rss / 1e6 - before_mb
        report.add("openai_streams", Figure(name="ours: memory grown", value=grown_mb, unit="MB"))


def _figures(name: str, port: int, path: str, body: bytes, scale: Scale) -> list[Figure]:
    firsts: list[float] = []
    wholes: list[float] = []
    for _ in range(scale.rounds):
        taken = uvloop.run(_all(port, path, body))
        firsts += [first for first, _ in taken]
        wholes.append(max(whole for _, whole in taken))
    return [
        Figure(name=f"{name}: first chunk, p50", value=median(firsts) * 1000, unit="ms"),
        Figure(name=f"{name}: first chunk, p99", value=quantiles(firsts, n=100)[98] * 1000, unit="ms"),
        Figure(name=f"{name}: all streams whole", value=median(wholes), unit="s"),
    ]


async def _all(port: int, path: str, body: bytes) -> list[tuple[float, float]]:
    # One that is not measured, so that the worker is up.
    await _stream(port, path, body)
    return await asyncio.gather(*(_stream(port, path, body) for _ in range(_STREAMS)))


async def _stream(port: int, path: str, body: bytes) -> tuple[float, float]:
    """Seconds to the first chunk, and to the end."""
    began_s = perf_counter()
    reader, writer = await asyncio.open_connection(HOST, port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer bench\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    said = await reader.readuntil(b"data: ")
    first_s = perf_counter() - began_s
    said += await reader.read()
    writer.close()
    if said.count(b"data: ") < _WORDS or _END not in said:
        raise NotMeasured(f"a stream is not whole: {said[-200:]!r}")
    return first_s, perf_counter() - began_s


@contextmanager
def _model_server() -> Iterator[int]:
    """The toy model behind HTTP alone; gives its port."""
    with subprocess.Popen(
        [sys.executable, str(_MODEL_SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait()
