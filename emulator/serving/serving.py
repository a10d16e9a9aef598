"""Serving for the length of a `with` block: in the caller's loop, or in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from emulator.clock.real_time import new_loop
from emulator.errors import EmulatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from emulator.client import EmulatorClient
    from emulator.core.config import EndpointConfig
    from emulator.core.endpoint import Endpoint
    from emulator.scenario.scenario import Scenario
    from emulator.scenario.stubs import Stub

_T = TypeVar("_T")


class Served(Protocol):
    """The emulator that is served, as far as is needed here."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def scenario(self, endpoint_id: str) -> Scenario:
        """What is ordered for an endpoint."""

    async def create_endpoint(
        self, endpoint_id: str, given: object = None, *, clock: str | None = None
    ) -> Endpoint:
        """Add an endpoint."""


class Serving:
    """What `Emulator.serve` gives: both an async and a plain context manager."""

    def __init__(
        self,
        emulator: Served,
        serve: Callable[[], AbstractAsyncContextManager[str]],
        api_key: str,
        code_token: str,
    ) -> None:
        self._emulator = emulator
        self._serve = serve
        self._api_key = api_key
        self._code_token = code_token
        self._serving: AbstractAsyncContextManager[str] | None = None
        self._thread: EmulatorThread | None = None
        self._client: EmulatorClient | None = None

    async def __aenter__(self) -> str:
        self._serving = self._serve()
        return await self._serving.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._serving is not None
        await self._serving.__aexit__(kind, error, trace)

    def __enter__(self) -> EmulatorClient:
        from emulator.client import EmulatorClient

        self._thread = EmulatorThread(self._emulator, self._serve)
        url = self._thread.start()
        self._client = EmulatorClient(
            url, api_key=self._api_key, code_token=self._code_token, in_process=self._thread
        )
        return self._client

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        assert self._client is not None
        self._client.close()
        self._thread.stop()


class EmulatorThread:
    """An emulator that lives in a thread, for callers that have no event loop or one of their own."""

    def __init__(self, emulator: Served, serve: Callable[[], AbstractAsyncContextManager[str]]) -> None:
        self._emulator = emulator
        self._serve = serve
        self._thread = threading.Thread(target=self._run, name="runpod-emulator", daemon=True)
        self._started = threading.Event()
        self._url = ""
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def start(self) -> str:
        """Start the emulator and serve; returns the URL.

        :raises EmulatorError: it cannot be started.
        """
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self._url

    def stop(self) -> None:
        """Stop serving, and the emulator; returns once all is gone."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def create_endpoint(self, endpoint_id: str, config: EndpointConfig, clock: str | None) -> None:
        """Add an endpoint.

        :raises EmulatorError: it cannot be; see `Emulator.create_endpoint`.
        """
        self._call(self._emulator.create_endpoint(endpoint_id, config, clock=clock))

    def add_stub(self, endpoint_id: str, stub: Stub) -> int:
        """Add a stub to an endpoint; returns its number.

        :raises ConfigError: it takes none; see `Scenario.add_stub`.
        """

        async def add() -> int:
            return self._emulator.scenario(endpoint_id).add_stub(stub).number

        return self._call(add())

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the emulator's loop."""
        if self._loop is None or not self._thread.is_alive():
            work.close()
            raise EmulatorError("the emulator has stopped")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(self._live())
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self._emulator, self._serve() as url:
            self._url = url
            self._started.set()
            await self._stop.wait()
