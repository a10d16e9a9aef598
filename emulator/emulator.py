"""The emulator: builds the parts, starts them, serves them, and takes them down again."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from emulator.api.auth import Access, BrowserGuard, is_loopback
from emulator.api.rate_limits import RateLimits
from emulator.core.clock import Clock
from emulator.core.config import EndpointConfig
from emulator.core.endpoint import Endpoint
from emulator.core.errors import ConfigError, EmulatorError, EndpointNotFound
from emulator.core.events import JobMoved
from emulator.core.gateway import Gateway
from emulator.logs import log_event
from emulator.webhooks import Webhooks
from emulator.workers.handler import Handler
from emulator.workers.inline import InlineLauncher
from emulator.workers.loading import load_handler
from emulator.workers.mock_worker import mock_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping
    from types import TracebackType
    from typing import Self

    from emulator.api.app import EmulatorApp
    from emulator.core.events import Event

log = logging.getLogger("emulator")

#: The endpoint that is there when none is asked for.
DEFAULT_ENDPOINT_ID = "local"
#: Real seconds that a webhook call in flight, and a handler that is being stopped, get at the end.
_WEBHOOK_PATIENCE_S = 2.0
_HANDLER_PATIENCE_S = 1.0
_ANSWER_PATIENCE_S = 2.0


class Emulator:
    """Endpoints with queues and workers, and the HTTP API in front of them.

        async with Emulator({"my-endpoint": handler}) as emulator:
            async with emulator.serve() as url:
                ...

    `endpoints` maps endpoint ids to a handler (a callable, `"handler.py"`, `"handler.py:function"`,
    `"module:function"`, or None for the built-in mock worker) or to an `EndpointConfig`. The first one
    also answers at the root, like the SDK's own dev server.

    :param clock: the time of everything; a `VirtualClock` to move it by hand.
    :param api_keys: the keys that pass; any does when there are none.
    :param auth: whether a key is asked for at all.
    :param rate_limits: whether production's limits (wire.md 6) are enforced.
    :param rate_limit_scale: multiplies every limit.
    :raises ConfigError: an endpoint id or a number is out of bounds.
    """

    def __init__(
        self,
        endpoints: Mapping[str, object] | None = None,
        *,
        clock: Clock | None = None,
        api_keys: Collection[str] = (),
        auth: bool = True,
        rate_limits: bool = True,
        rate_limit_scale: float = 1.0,
    ) -> None:
        if not rate_limit_scale > 0:
            raise ConfigError(f"rate_limit_scale is {rate_limit_scale}: it must be above 0")
        self.clock = Clock() if clock is None else clock
        self._webhooks = Webhooks(self.clock)
        self._access = Access(api_keys, required=auth)
        self._guard = BrowserGuard()
        self._rate_limits = RateLimits(self.clock, enabled=rate_limits, scale=rate_limit_scale)
        self._endpoints = {
            _checked_id(endpoint_id): self._build_endpoint(endpoint_id, given)
            for endpoint_id, given in (endpoints or {DEFAULT_ENDPOINT_ID: None}).items()
        }
        self._launchers: dict[str, InlineLauncher] = {}
        self._started_ms: int | None = None
        self._url: str | None = None

    # Its parts

    @property
    def endpoint_ids(self) -> list[str]:
        """The ids of the endpoints; the first also answers at the root."""
        return list(self._endpoints)

    @property
    def checks_keys(self) -> bool:
        """Whether only certain API keys pass."""
        return self._access.checks_keys

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """An endpoint: `submit`, `wait`, `cancel`, `health` and the rest, without HTTP.

        :raises EndpointNotFound: there is none with this id.
        """
        try:
            return self._endpoints[endpoint_id]
        except KeyError:
            raise EndpointNotFound(
                f"endpoint not found: {endpoint_id!r}: there is {', '.join(self._endpoints)}"
            ) from None

    def handler(self, endpoint_id: str) -> Handler:
        """The handler that the workers of an endpoint run, once it has been loaded.

        :raises EndpointNotFound: there is no such endpoint, or the emulator has not been started.
        """
        try:
            return self._launchers[endpoint_id].handler
        except KeyError:
            raise EndpointNotFound(f"no handler is loaded for endpoint {endpoint_id!r}") from None

    @property
    def url(self) -> str:
        """Where it is served, e.g. `http://127.0.0.1:8000`; SDKs are given this and `/v2`.

        :raises EmulatorError: it is not being served.
        """
        if self._url is None:
            raise EmulatorError("the emulator is not served: use `async with emulator.serve():`")
        return self._url

    @cached_property
    def app(self) -> EmulatorApp:
        """The ASGI application, for a server or for a client in this process.

        A server that runs it starts and stops the emulator with it.
        """
        from emulator.api.app import EmulatorApp
        from emulator.api.control import Controls

        return EmulatorApp(
            endpoints=self._endpoints,
            default_endpoint_id=next(iter(self._endpoints)),
            access=self._access,
            guard=self._guard,
            rate_limits=self._rate_limits,
            controls=Controls(
                clock=self.clock,
                reset=self.reset,
                not_ready=self._not_ready,
                started_ms=lambda: self._started_ms,
            ),
            lifespan=self._lifespan,
        )

    # Its life

    async def start(self) -> None:
        """Load the handlers and let jobs run.

        :raises HandlerError: a handler cannot be loaded; nothing has been started.
        :raises EmulatorError: it has been started before.
        """
        if self._started_ms is not None:
            raise EmulatorError("an Emulator is started once: make another one")
        self._launchers = {
            endpoint_id: self._build_launcher(endpoint) for endpoint_id, endpoint in self._endpoints.items()
        }
        self._started_ms = self.clock.now_ms()
        for endpoint_id, endpoint in self._endpoints.items():
            endpoint.open(self._launchers[endpoint_id])

    async def stop(self) -> None:
        """End the workers, answer those who wait, and give webhook calls in flight two seconds."""
        for endpoint in self._endpoints.values():
            endpoint.close()
        for endpoint_id, launcher in self._launchers.items():
            if left := await launcher.close(_HANDLER_PATIENCE_S):
                log.warning("%s: %d handlers did not stop and were left behind", endpoint_id, left)
        self._launchers.clear()
        await self._webhooks.close(_WEBHOOK_PATIENCE_S)
        self.clock.close()

    async def reset(self) -> dict[str, dict[str, int]]:
        """Forget all jobs, webhooks and counters, restart the workers; the clock gets its first mode back.

        Returns per endpoint how many jobs and workers there were.
        """
        counts = {
            endpoint_id: endpoint.reset(self._launchers[endpoint_id])
            for endpoint_id, endpoint in self._endpoints.items()
        }
        await self._webhooks.reset()
        self._rate_limits.reset()
        self.clock.restore()
        return counts

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve over HTTP while the body runs; gives the URL. Port 0 is any that is free.

        Off this machine's own addresses the `Host` header is not checked.

        :raises ConfigError: the address cannot be bound.
        """
        from emulator.server import HTTPServer, listen, url_of

        listener = listen(host, port)
        self._guard.loopback_only = is_loopback(host)
        server = HTTPServer(self.app, listener)
        await server.start()
        self._url = url_of(listener)
        try:
            yield self._url
        finally:
            self._url = None
            for endpoint in self._endpoints.values():
                endpoint.release_waiters()
            await server.stop(_ANSWER_PATIENCE_S)

    @asynccontextmanager
    async def _lifespan(self, _app: object) -> AsyncIterator[None]:
        if self._started_ms is None:
            async with self:
                yield
        else:
            yield

    def _not_ready(self) -> list[str]:
        return (
            []
            if self._launchers
            else ["the emulator is not running: use `async with Emulator(...)`, or `await emulator.start()`"]
        )

    def _build_endpoint(self, endpoint_id: str, given: object) -> Endpoint:
        config = given if isinstance(given, EndpointConfig) else EndpointConfig(handler=given)
        return Endpoint(endpoint_id, config, self.clock, self._on_event)

    def _build_launcher(self, endpoint: Endpoint) -> InlineLauncher:
        source, clock = endpoint.config.handler, self.clock
        if isinstance(source, Handler):
            handler = source
        else:
            handler = mock_worker(clock) if source is None else load_handler(source)
        return InlineLauncher(handler, Gateway(endpoint), clock, cold_start_ms=endpoint.config.cold_start_ms)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, JobMoved) and event.job.webhook is not None:
            self._webhooks.on_job_moved(event)
        log_event(event)


def _checked_id(endpoint_id: str) -> str:
    if not endpoint_id or not all(character.isalnum() or character in "-_." for character in endpoint_id):
        raise ConfigError(f"{endpoint_id!r} cannot be an endpoint id: use letters, digits and -_.")
    return endpoint_id
