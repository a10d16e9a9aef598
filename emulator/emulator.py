"""The emulator: builds the parts, starts them, serves them, and takes them down again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from emulator.api.auth import Access, BrowserGuard, is_loopback
from emulator.api.rate_limits import RateLimits
from emulator.core.clock import Clock
from emulator.core.config import EndpointConfig, WorkerKind
from emulator.core.endpoint import Endpoint
from emulator.core.errors import ConfigError, EmulatorError, EndpointNotFound
from emulator.core.events import JobMoved, WorkerWrote
from emulator.core.worker_logs import WorkerLogs
from emulator.logs import log_event
from emulator.webhooks import Webhooks
from emulator.workers.command import WorkerCommand
from emulator.workers.guard import Guard
from emulator.workers.launchers import (
    inline_launcher,
    process_launcher,
    project_of,
    take_up_changes,
    worker_kind,
)
from emulator.workers.preflight import check_command
from emulator.workers.process import ProcessLauncher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from emulator.api.app import EmulatorApp
    from emulator.core.events import Event
    from emulator.workers.launchers import Launcher

log = logging.getLogger("emulator")

#: The endpoint that is there when none is asked for.
DEFAULT_ENDPOINT_ID = "local"
#: Real seconds that a webhook call in flight, and a handler that is being stopped, get at the end.
_WEBHOOK_PATIENCE_S = 2.0
_HANDLER_PATIENCE_S = 1.0
_ANSWER_PATIENCE_S = 2.0
#: Real seconds from SIGTERM to SIGKILL for worker processes at the end.
_PROCESS_PATIENCE_S = 0.5
_NOT_RUNNING = "the emulator is not running: use `async with Emulator(...)`, or `await emulator.start()`"


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
        #: Of the endpoints that start workers; those with process workers have one while they are served.
        self._launchers: dict[str, Launcher] = {}
        self._commands: dict[str, WorkerCommand] = {}
        self._guard_program = Guard()
        self._logs = WorkerLogs(self.clock)
        #: Why jobs cannot run now.
        self._obstacles = [_NOT_RUNNING]
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

    def worker_kind(self, endpoint_id: str) -> WorkerKind:
        """Who runs the jobs of an endpoint.

        :raises EndpointNotFound: there is no such endpoint.
        """
        return worker_kind(self.endpoint(endpoint_id).config)

    def describe_handler(self, endpoint_id: str) -> str:
        """What the workers of an endpoint run, for a person; empty when it starts none.

        :raises EndpointNotFound: there is no such endpoint.
        """
        kind = self.worker_kind(endpoint_id)
        if kind is WorkerKind.PROCESS and (command := self._commands.get(endpoint_id)):
            return f"{command.name} ({'script' if command.is_script else 'function'}, {command.python})"
        launcher = self._launchers.get(endpoint_id)
        if launcher is None or isinstance(launcher, ProcessLauncher):
            return ""
        return f"{launcher.handler.name} ({launcher.handler.kind.value})"

    def projects(self) -> dict[str, Path]:
        """The folders of the handlers that can be reloaded, by endpoint."""
        folders = {
            endpoint_id: project_of(endpoint.config)
            for endpoint_id, endpoint in self._endpoints.items()
            if self.worker_kind(endpoint_id) is not WorkerKind.EXTERNAL
        }
        return {endpoint_id: folder for endpoint_id, folder in folders.items() if folder is not None}

    def reload(self, endpoint_id: str, changed: Iterable[Path] = ()) -> None:
        """Have workers with the handler's present code take over; jobs that run end on the old code.

        `changed` are the files whose syntax is to be checked first.

        :raises HandlerError: the code cannot be loaded; the old code goes on serving.
        :raises EndpointNotFound: there is no such endpoint.
        """
        endpoint = self.endpoint(endpoint_id)
        if (launcher := self._launchers.get(endpoint_id)) is not None:
            take_up_changes(launcher, endpoint.config, changed)
            endpoint.reload()

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
                not_ready=lambda: self._obstacles,
                started_ms=lambda: self._started_ms,
                endpoints=self._endpoints,
                worker_kind=self.worker_kind,
                process_id=self._process_id,
                logs=self._logs,
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
        for endpoint_id in self._of_kind(WorkerKind.PROCESS):
            command = self._commands[endpoint_id] = WorkerCommand.of(self._endpoints[endpoint_id].config)
            check_command(command)
        self._launchers = {
            endpoint_id: inline_launcher(self._endpoints[endpoint_id], self.clock)
            for endpoint_id in self._of_kind(WorkerKind.INLINE)
        }
        self._started_ms = self.clock.now_ms()
        self._obstacles = self._unserved()
        for endpoint_id in self._of_kind(WorkerKind.INLINE, WorkerKind.EXTERNAL):
            self._endpoints[endpoint_id].open(self._launchers.get(endpoint_id))

    async def stop(self) -> None:
        """End the workers, answer those who wait, and give webhook calls in flight two seconds."""
        for endpoint in self._endpoints.values():
            endpoint.close()
        for endpoint_id, launcher in self._launchers.items():
            if left := await launcher.close(_HANDLER_PATIENCE_S):
                log.warning("%s: %d handlers did not stop and were left behind", endpoint_id, left)
        self._launchers.clear()
        self._obstacles = [_NOT_RUNNING]
        await self._webhooks.close(_WEBHOOK_PATIENCE_S)
        self.clock.close()

    async def reset(self) -> dict[str, dict[str, int]]:
        """Forget all jobs, webhooks and counters, restart the workers; the clock gets its first mode back.

        Returns per endpoint how many jobs and workers there were.
        """
        counts = {
            endpoint_id: endpoint.reset(self._launchers.get(endpoint_id))
            for endpoint_id, endpoint in self._endpoints.items()
        }
        self._logs.clear()
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
        self._open_process_workers(self._url)
        try:
            yield self._url
        finally:
            self._url = None
            self._logs.release()
            await self._close_process_workers()
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

    def _of_kind(self, *kinds: WorkerKind) -> list[str]:
        return [endpoint_id for endpoint_id in self._endpoints if self.worker_kind(endpoint_id) in kinds]

    def _unserved(self) -> list[str]:
        return [
            f"the workers of endpoint {endpoint_id!r} are processes, which reach the emulator over HTTP:"
            " use `async with emulator.serve()`"
            for endpoint_id in self._of_kind(WorkerKind.PROCESS)
        ]

    def _open_process_workers(self, url: str) -> None:
        self._obstacles = []
        for endpoint_id in self._of_kind(WorkerKind.PROCESS):
            endpoint = self._endpoints[endpoint_id]
            launcher = self._launchers[endpoint_id] = process_launcher(
                endpoint,
                self._commands[endpoint_id],
                self.clock,
                self._guard_program,
                url=url,
                api_key=self._access.any_key,
            )
            endpoint.open(launcher)

    async def _close_process_workers(self) -> None:
        closing = []
        for endpoint_id in self._of_kind(WorkerKind.PROCESS):
            self._endpoints[endpoint_id].close()
            closing.append(self._launchers.pop(endpoint_id).close(_PROCESS_PATIENCE_S))
        await asyncio.gather(*closing)
        self._guard_program.close()
        self._obstacles = self._unserved()

    def _process_id(self, endpoint_id: str, worker_id: str) -> int | None:
        launcher = self._launchers.get(endpoint_id)
        return launcher.process_id(worker_id) if isinstance(launcher, ProcessLauncher) else None

    def _build_endpoint(self, endpoint_id: str, given: object) -> Endpoint:
        config = given if isinstance(given, EndpointConfig) else EndpointConfig(handler=given)
        return Endpoint(endpoint_id, config, self.clock, self._on_event)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, JobMoved) and event.job.webhook is not None:
            self._webhooks.on_job_moved(event)
        if isinstance(event, WorkerWrote):
            self._logs.add(event)
        else:
            self._logs.notify()
        log_event(event)


def _checked_id(endpoint_id: str) -> str:
    if not endpoint_id or not all(character.isalnum() or character in "-_." for character in endpoint_id):
        raise ConfigError(f"{endpoint_id!r} cannot be an endpoint id: use letters, digits and -_.")
    return endpoint_id
