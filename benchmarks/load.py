"""A closed-loop load generator in a process of its own: each connection sends again once it is answered.

Raw protocols on uvloop, so that it costs far less than any server it measures; every response is checked.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from array import array
from dataclasses import asdict, dataclass
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Protocol, cast

import uvloop

from benchmarks.figure import NotMeasured
from benchmarks.servers import HOST, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Time for connections to be made, for the last responses, and for the process to start and end.
_SPARE_S = 20.0
_MOST_FAILURES = 5
_PROMPT = "a lighthouse at dusk, oil on canvas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send where, and for how long."""

    port: int
    #: POST sends an input of its own with each request and expects it as output; GET reads a finished job.
    method: str
    path: str
    headers: Mapping[str, str]
    connections: int
    warm_up_s: float
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What came of it."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    #: How much of a core the generator itself needed: near 1 it measures itself.
    generator_cpu: float


def run(load: Load) -> Throughput:
    """Put a server under load from a new process.

    :raises NotMeasured: a response was wrong or a connection was lost.
    """
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            input=json.dumps(asdict(load)).encode(),
            capture_output=True,
            cwd=ROOT,
            timeout=load.warm_up_s + load.duration_s + _SPARE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotMeasured(f"{load.method} {load.path}: no end to the load: a response is missing") from error
    if finished.returncode != 0:
        raise NotMeasured(
            f"{load.method} {load.path}: {finished.stderr.decode(errors='replace').strip()[-1000:]}"
        )
    return Throughput(**json.loads(finished.stdout))


class Exchange(Protocol):
    """What one connection asks and which answer is right."""

    def request(self) -> bytes:
        """The next request, head and body."""

    def accepts(self, fields: dict[str, Any]) -> bool:
        """Whether this body answers the last request."""


class Echo:
    """Jobs that come back as they went; each has a number, so that an answer cannot be another's."""

    def __init__(self, load: Load, connection: int) -> None:
        self._head = _head(load) + b"content-type: application/json\r\ncontent-length: "
        self._number = connection * 100_000_000
        self._input: dict[str, Any] = {}

    def request(self) -> bytes:
        """A job with the next number."""
        self._number += 1
        self._input = {"prompt": _PROMPT, "number": self._number}
        body = b'{"input":{"prompt":"%b","number":%d}}' % (_PROMPT.encode(), self._number)
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def accepts(self, fields: dict[str, Any]) -> bool:
        """Whether the job ended well with its own input as output."""
        return (fields["status"], fields["output"]) == ("COMPLETED", self._input)


class Submitting(Echo):
    """Jobs whose ends nobody waits for."""

    def accepts(self, fields: dict[str, Any]) -> bool:
        """Whether the job was taken."""
        return fields["status"] == "IN_QUEUE" and "id" in fields


class Reading:
    """The status of one finished job, again and again."""

    def __init__(self, load: Load) -> None:
        self._request = _head(load) + b"\r\n"
        self._job_id = load.path.rpartition("/")[2]

    def request(self) -> bytes:
        """The same question each time."""
        return self._request

    def accepts(self, fields: dict[str, Any]) -> bool:
        """Whether it is this job's result."""
        return fields["status"] == "COMPLETED" and fields["id"] == self._job_id and "output" in fields


def _exchange_of(load: Load, connection: int) -> Exchange:
    if load.method == "GET":
        return Reading(load)
    return (Submitting if load.path.endswith("/run") else Echo)(load, connection)


class Generator:
    """All connections of one load, and what they measured."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.stopping = False
        self.latencies_s = array("d")
        self.failures: list[str] = []
        self._open = 0
        self._all_closed = asyncio.get_running_loop().create_future()

    async def run(self) -> Throughput:
        """Connect, warm up, measure, finish."""
        loop = asyncio.get_running_loop()
        connections = [Connection(self, number) for number in range(self.load.connections)]
        for connection in connections:
            await loop.create_connection(lambda connection=connection: connection, HOST, self.load.port)  # type: ignore[misc]
        for connection in connections:
            connection.send()
        await asyncio.sleep(self.load.warm_up_s)
        self.latencies_s = array("d")
        began, cpu_began = perf_counter(), process_time()
        await asyncio.sleep(self.load.duration_s)
        took_s, latencies = perf_counter() - began, sorted(self.latencies_s)
        generator_cpu = (process_time() - cpu_began) / took_s
        self.stopping = True
        await self._all_closed
        if self.failures or not latencies:
            raise NotMeasured("; ".join(self.failures) or "not one response came")
        return Throughput(
            requests_per_s=len(latencies) / took_s,
            p50_ms=latencies[len(latencies) // 2] * 1000,
            p99_ms=latencies[len(latencies) * 99 // 100] * 1000,
            generator_cpu=generator_cpu,
        )

    def fail(self, reason: str) -> None:
        """A response was not what it should be."""
        if len(self.failures) < _MOST_FAILURES:
            self.failures.append(reason)

    def opened(self) -> None:
        """A connection has been made."""
        self._open += 1

    def closed(self) -> None:
        """A connection has ended."""
        self._open -= 1
        if not self._open and not self._all_closed.done():
            self._all_closed.set_result(None)


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way."""

    def __init__(self, generator: Generator, number: int) -> None:
        load = generator.load
        self._generator = generator
        self._exchange = _exchange_of(load, number)
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are not asyncio's by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._generator.opened()

    def send(self) -> None:
        """Ask."""
        assert self._transport is not None
        request = self._exchange.request()
        self._sent_at = perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take the answer once it is whole, check it, ask again."""
        now = perf_counter()
        received = self._received = self._received + data if self._received else data
        head, separator, body = received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _content_length(head)
        if length is None:
            self._give_up(f"a response without a content-length: {received[:500]!r}")
            return
        if len(body) < length:
            return
        self._received = b""
        if not self._is_right(head, body):
            self._give_up(f"not the right response: {received[:500]!r}")
            return
        self._generator.latencies_s.append(now - self._sent_at)
        if self._generator.stopping:
            self._close()
        else:
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Only the generator closes connections."""
        if not self._generator.stopping:
            self._generator.fail(f"the server closed a connection: {exc!r}")
        self._generator.closed()

    def _is_right(self, head: bytes, body: bytes) -> bool:
        try:
            return head.startswith(b"HTTP/1.1 200 ") and self._exchange.accepts(json.loads(body))
        except (ValueError, KeyError, TypeError):
            return False

    def _give_up(self, reason: str) -> None:
        self._generator.fail(reason)
        self._close()

    def _close(self) -> None:
        assert self._transport is not None
        self._transport.close()


def _head(load: Load) -> bytes:
    lines = [f"{load.method} {load.path} HTTP/1.1", f"host: {HOST}:{load.port}"]
    lines += [f"{name}: {value}" for name, value in load.headers.items()]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _content_length(head: bytes) -> int | None:
    lowered = head.lower()
    at = lowered.find(b"\r\ncontent-length:")
    if at < 0:
        return None
    return int(lowered[at + 17 :].partition(b"\r\n")[0])


async def _generate(load: Load) -> Throughput:
    return await Generator(load).run()


def main() -> None:
    """Read a load from stdin, write what came of it to stdout."""
    load = Load(**json.load(sys.stdin))
    gc.disable()
    try:
        throughput = uvloop.run(_generate(load))
    except (NotMeasured, OSError) as error:
        sys.exit(str(error))
    print(json.dumps(asdict(throughput)))


if __name__ == "__main__":
    main()
