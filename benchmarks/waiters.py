"""What clients cost that do nothing but wait: thousands of /runsync calls for jobs that no worker takes."""

from __future__ import annotations

import asyncio
import json
import resource
from http.client import HTTPConnection
from time import monotonic
from typing import TYPE_CHECKING, cast

import psutil  # type: ignore[import-untyped]
import uvloop

from benchmarks.figure import Figure, NotMeasured, Target
from benchmarks.report import say
from benchmarks.servers import HOST, Server, ours

if TYPE_CHECKING:
    from benchmarks.report import Report
    from benchmarks.scale import Scale

#: Connections made at a time: fewer than a listening socket keeps waiting.
_CONNECT_AT_ONCE = 200
_QUEUED_WITHIN_S = 30.0
#: A moment after the last arrival, before the watch begins.
_SETTLE_S = 1.0
_FILES_BESIDE = 200
_BODY = b'{"input":{"prompt":"a lighthouse at dusk"}}'


def measure(report: Report, scale: Scale) -> None:
    """Let clients wait in /runsync and see what the server does meanwhile.

    :raises NotMeasured: not all of them could wait.
    """
    say(f"waiters: {scale.waiters:,} clients for {scale.idle_s:g} s".replace(",", " "))
    _allow_files(scale.waiters + _FILES_BESIDE)
    with Server(ours("--workers-max", "0")) as server:
        server.wait_until_ready()
        report.add("waiters", *uvloop.run(_watch(server, scale)))


class Waiter(asyncio.Protocol):
    """A client that has asked and waits."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        #: What has come, and how the connection ended, if it did.
        self.heard = b""
        self.hung_up: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once."""
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Nothing should come before the server ends."""
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Nor should it hang up."""
        self.hung_up = f"the connection was closed: {exc!r}"


async def _watch(server: Server, scale: Scale) -> list[Figure]:
    loop = asyncio.get_running_loop()
    process = psutil.Process(server.pid)
    rss_before = process.memory_info().rss
    request = _request(server)
    waiters = [Waiter(request) for _ in range(scale.waiters)]
    began = monotonic()
    for first in range(0, len(waiters), _CONNECT_AT_ONCE):
        await asyncio.gather(
            *(
                loop.create_connection(lambda waiter=waiter: waiter, HOST, server.port)  # type: ignore[misc]
                for waiter in waiters[first : first + _CONNECT_AT_ONCE]
            )
        )
    while (queued := await asyncio.to_thread(_queued, server)) < len(waiters):
        if monotonic() > began + _QUEUED_WITHIN_S:
            raise NotMeasured(f"only {queued} of {len(waiters)} jobs were queued{_news(waiters)}")
        await asyncio.sleep(0.05)
    arrived_s = monotonic() - began
    await asyncio.sleep(_SETTLE_S)
    rss = process.memory_info().rss
    cpu_before, watch_began = cpu_s(process), monotonic()
    await asyncio.sleep(scale.idle_s)
    busy = (cpu_s(process) - cpu_before) / (monotonic() - watch_began)
    if news := _news(waiters):
        raise NotMeasured(f"not all clients waited{news}")
    stop_s = await asyncio.to_thread(server.stop)
    await asyncio.sleep(_SETTLE_S)
    answered = sum(b'"status":"IN_QUEUE"' in waiter.heard for waiter in waiters)
    return [
        Figure(name="waiting clients", value=len(waiters), unit=""),
        Figure(name="all queued after", value=arrived_s, unit="s"),
        Figure(name="memory per waiting client", value=(rss - rss_before) / len(waiters) / 1024, unit="KiB"),
        Figure(name="CPU while they wait", value=busy * 100, unit="%", target=Target.at_most(1)),
        Figure(name="SIGTERM to end", value=stop_s, unit="s"),
        Figure(name="of them answered at the end", value=answered / len(waiters) * 100, unit="%"),
    ]


def _request(server: Server) -> bytes:
    lines = [
        f"POST {server.kind.base_path}/runsync?wait=300000 HTTP/1.1",
        f"host: {HOST}:{server.port}",
        "content-type: application/json",
        f"content-length: {len(_BODY)}",
        *(f"{name}: {value}" for name, value in server.kind.headers.items()),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + _BODY


def _queued(server: Server) -> int:
    connection = HTTPConnection(HOST, server.port, timeout=_QUEUED_WITHIN_S)
    try:
        connection.request("GET", f"{server.kind.base_path}/health", headers=dict(server.kind.headers))
        queued: int = json.load(connection.getresponse())["jobs"]["inQueue"]
        return queued
    except (OSError, ValueError, KeyError) as error:
        raise NotMeasured(f"the server does not say how many jobs are queued: {error!r}") from error
    finally:
        connection.close()


def _news(waiters: list[Waiter]) -> str:
    told = [waiter.heard[:300] or waiter.hung_up for waiter in waiters if waiter.heard or waiter.hung_up]
    return f"; {len(told)} heard something, such as {told[0]!r}" if told else ""


def cpu_s(process: psutil.Process) -> float:
    """Seconds of CPU that a process has used."""
    times = process.cpu_times()
    spent_s: float = times.user + times.system
    return spent_s


def _allow_files(wanted: int) -> None:
    """Let this process, and the server it starts, have so many connections open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise NotMeasured(f"{wanted} open files are needed and {hard} allowed: raise the limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
