"""A client of an emulator in this process: over HTTP in the same loop, on a frozen clock."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from emulator import Emulator, EndpointConfig, VirtualClock
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = {"authorization": "Bearer local"}


class Client:
    """Asks one endpoint; `prefix` is where its operations are."""

    def __init__(self, emulator: Emulator, http: httpx.AsyncClient, prefix: str) -> None:
        self.emulator = emulator
        self.clock = emulator.clock
        self.http = http
        self.prefix = prefix

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(self.prefix + path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.post(self.prefix + path, **options)

    async def run(self, input: object = "hello", **fields: object) -> str:
        """Submit a job; returns its id."""
        response = await self.post("/run", json={"input": input, **fields})
        assert response.status_code == 200, response.text
        return response.json()["id"]

    async def runsync(self, input: object = "hello", **fields: object) -> dict[str, Any]:
        """Submit a job and wait for its end; returns its body."""
        response = await self.post("/runsync", json={"input": input, **fields})
        assert response.status_code == 200, response.text
        return response.json()

    async def status(self, job_id: str) -> dict[str, Any]:
        """The job as it stands, once everything that needs no time has happened."""
        await self.clock.settle()
        response = await self.get(f"/status/{job_id}")
        assert response.status_code == 200, response.text
        return response.json()

    async def ended(self, job_id: str) -> dict[str, Any]:
        """The job, once it has ended."""
        response = await self.get(f"/status-sync/{job_id}?wait=300000")
        assert response.status_code == 200, response.text
        return response.json()

    async def is_gone(self, job_id: str) -> bool:
        """Whether the job is unknown by now."""
        response = await self.get(f"/status/{job_id}")
        assert response.status_code in (200, 404), response.text
        return response.status_code == 404

    async def begin(self, method: str, path: str, **options: Any) -> asyncio.Task[httpx.Response]:
        """A request that may take a while, under way."""
        task = asyncio.get_running_loop().create_task(
            self.http.request(method, self.prefix + path, **options)
        )
        await self.clock.settle()
        return task

    async def jobs(self) -> dict[str, int]:
        """The jobs that /health counts."""
        return (await self.get("/health")).json()["jobs"]

    async def workers(self) -> dict[str, int]:
        """How many workers /health counts in each state that any is in."""
        counts = (await self.get("/health")).json()["workers"]
        assert counts.pop("ready") == counts["idle"]
        return {state: count for state, count in counts.items() if count}


@asynccontextmanager
async def emulated(
    handler: object = None, *, prefix: str = "/v2/ep", options: dict[str, Any] | None = None, **config: Any
) -> AsyncIterator[Client]:
    """A running emulator with one endpoint, `ep`, and its client.

    `config` is the endpoint's, `options` are the emulator's own; no handler is the mock worker.
    """
    emulator = an_emulator(handler, options, config)
    async with asyncio.timeout(PATIENCE_S), emulator, client_of(emulator, prefix) as client:
        yield client


@asynccontextmanager
async def served(
    handler: object = None, *, options: dict[str, Any] | None = None, **config: Any
) -> AsyncIterator[Client]:
    """As `emulated`, but over a real socket."""
    emulator = an_emulator(handler, options, config)
    async with (
        asyncio.timeout(PATIENCE_S),
        emulator,
        emulator.serve() as url,
        httpx.AsyncClient(base_url=url, headers=KEY, trust_env=False, timeout=PATIENCE_S) as http,
    ):
        yield Client(emulator, http, "/v2/ep")


@asynccontextmanager
async def client_of(emulator: Emulator, prefix: str = "/v2/ep") -> AsyncIterator[Client]:
    """A client of an emulator that someone else starts."""
    transport = httpx.ASGITransport(emulator.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://emulator", headers=KEY) as http:
        yield Client(emulator, http, prefix)


def secret_of(client: Client, worker_id: str) -> str:
    """What a worker that was started here proves itself by."""
    return client.emulator.worker_secrets.of(worker_id)


def an_emulator(handler: object, options: dict[str, Any] | None, config: dict[str, Any]) -> Emulator:
    """One with an endpoint `ep`, not started, its clock frozen unless `options` bring another."""
    return Emulator(
        {"ep": EndpointConfig(handler=handler, **config)}, **{"clock": VirtualClock(), **(options or {})}
    )
