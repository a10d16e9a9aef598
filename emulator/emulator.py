"""The emulator: builds the parts, starts them, serves them, and takes them down again."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.api.auth import Access, BrowserGuard, is_loopback
from emulator.api.origins import Origins
from emulator.api.rate_limits import RateLimits
from emulator.api.waits import Waits
from emulator.clock.clock import Clock, clock_of
from emulator.clock.slices import in_slices
from emulator.core.bounds import ENDPOINTS_MAX
from emulator.core.config import EndpointConfig, WorkerKind
from emulator.core.endpoint import Endpoint
from emulator.core.events import unfailing
from emulator.errors import ConfigError, EmulatorError, EndpointNotFound
from emulator.history.event_feed import EventFeed
from emulator.history.journal import ENTRIES_KEPT, Journal
from emulator.history.measures import Measures
from emulator.history.queue_watch import QueueWatch
from emulator.history.worker_logs import WorkerLogs
from emulator.ledger.carrying import for_emulator, state_of_emulator
from emulator.ledger.parts import Served
from emulator.ledger.state_file import StateFile
from emulator.s3.store import LocalStore, StoreGone
from emulator.scenario.faults import Faults
from emulator.scenario.scenario import Scenario
from emulator.serving.serving import Serving
from emulator.telling import Telling
from emulator.webhooks.deliveries import Webhooks
from emulator.webhooks.sinks import Sinks
from emulator.workers.command import with_module_as_command
from emulator.workers.launchers import worker_kind
from emulator.workers.project import project_of
from emulator.workers.staff import Staff
from emulator.workers.worker_secrets import WorkerSecrets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
    from types import TracebackType
    from typing import Self

    from emulator.api.app import EmulatorApp
    from emulator.core.events import Event
    from emulator.history.journal import Entry
    from emulator.ledger.database import Sync
    from emulator.ledger.json_lines import State
    from emulator.serving.tls import ServedTLS
    from emulator.serving.workers_door import WorkersDoor
    from emulator.workers.project import Project
    from emulator.workers.reach import Reach

#: The endpoint that is there when none is asked for.
DEFAULT_ENDPOINT_ID = "local"
#: The kinds whose workers reach the emulator over HTTP, and are started here.
_SERVED = (WorkerKind.PROCESS, WorkerKind.DOCKER, WorkerKind.RAY)
#: Real seconds that a webhook call in flight, and answers that are being written, get at the end.
_WEBHOOK_PATIENCE_S = 2.0
_ANSWER_PATIENCE_S = 2.0
_NEEDS_SERVING = (
    "the workers of endpoint {!r} are processes or containers, which reach the emulator over HTTP:"
    " use `async with emulator.serve()`"
)
_STOPPING = "the emulator is stopping: send it again when it is there again"
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
    :param journal_entries: how many entries of each kind the journal keeps; 0 keeps none.
    :param s3: whether a local S3 store runs with it, whose variables workers get (the extra `s3`).
    :param state: the file in which the state is kept, so that it outlives the process; none by default.
    :param state_sync: what it survives: any the end of the process, `full` a loss of power too.
    :param on_event: is told of everything that happens (`emulator.core.events`), in the emulator's loop.
    :param allow_hosts: names by which it may be called, beside addresses and the names of this machine.
    :param allow_origins: of web pages that may call the endpoints, e.g. `https://app.localhost:3000`.
    :param worker_address: where workers that are not on this machine's loopback reach it, as `HOST` or
        `HOST:PORT`; None is found out.
    :param ray_address: of the Ray cluster that workers of kind `ray` are placed on: `auto`,
        `ray://HOST:PORT` or `HOST:PORT`; None makes one on this machine.
    :param code_over_http: whether whoever may use the control API may say what workers run.
    :param code_token: whoever sends it may say so in any case; made up when not given.
    :raises ConfigError: an endpoint id, a number or `state_sync` is none.
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
        journal_entries: int = ENTRIES_KEPT,
        s3: bool = False,
        state: str | Path | None = None,
        state_sync: Sync = "normal",
        on_event: Callable[[Event], None] | None = None,
        allow_hosts: Collection[str] = (),
        allow_origins: Collection[str] = (),
        worker_address: str | None = None,
        ray_address: str | None = None,
        code_over_http: bool = False,
        code_token: str | None = None,
    ) -> None:
        if not rate_limit_scale > 0:
            raise ConfigError(f"rate_limit_scale is {rate_limit_scale}: it must be above 0")
        self.clock = Clock() if clock is None else clock
        #: The faults that are ordered; none at first.
        self.faults = Faults()
        #: What has happened.
        self._feed = EventFeed(self.clock)
        self.journal = Journal(journal_entries, self._feed)
        #: The local S3 store, where one was asked for.
        self.store = LocalStore() if s3 else None
        self._sinks = Sinks()
        self._waits = Waits()
        #: What is ordered for each endpoint, and the figures of each.
        self._scenarios: dict[Endpoint, Scenario] = {}
        self._measures: dict[Endpoint, Measures] = {}
        self._webhooks = Webhooks(self.journal, self._scenarios)
        #: What workers that are started here prove themselves by.
        self.worker_secrets = WorkerSecrets()
        self._code_token = code_token or secrets.token_urlsafe()
        self._access = Access(
            api_keys,
            self.worker_secrets,
            required=auth,
            code_over_http=code_over_http,
            code_token=self._code_token,
        )
        self._worker_address = worker_address
        named = () if worker_address is None else (worker_address,)
        self._guard = BrowserGuard(allow_hosts=(*allow_hosts, *named))
        self._origins = Origins(allow_origins)
        self._rate_limits = RateLimits(enabled=rate_limits, scale=rate_limit_scale)
        self._endpoints: dict[str, Endpoint] = {}
        self._state = None if state is None else StateFile(Path(state), state_sync)
        self._queue_watch = QueueWatch(self._endpoints)
        self._logs = WorkerLogs(self.clock, self._feed)
        self._telling = Telling(
            access=self._access,
            logs=self._logs,
            journal=self.journal,
            webhooks=self._webhooks,
            queue_watch=self._queue_watch,
            state=self._state,
            listener=None if on_event is None else unfailing(on_event),
            scenarios=self._scenarios,
            measures=self._measures,
        )
        for endpoint_id, given in (endpoints or {DEFAULT_ENDPOINT_ID: None}).items():
            endpoint = self._build_endpoint(_checked_id(endpoint_id), given, self.clock)
            self._endpoints[endpoint_id] = endpoint
        self._given = frozenset(self._endpoints)
        self._staff = Staff(self._access.any_key, lambda: self.worker_key, self.worker_secrets, ray_address)
        #: Why jobs cannot run now.
        self._obstacles = [_NOT_RUNNING]
        self._started_ms: int | None = None
        self._url: str | None = None
        #: Where it serves HTTPS, if it does.
        self.tls: ServedTLS | None = None
        self._door: WorkersDoor | None = None

    # Its parts

    @property
    def endpoint_ids(self) -> list[str]:
        """The ids of the endpoints; the first also answers at the root."""
        return list(self._endpoints)

    @property
    def job_count(self) -> int:
        """How many jobs of all endpoints are kept."""
        return sum(endpoint.job_count for endpoint in self._endpoints.values())

    @property
    def checks_keys(self) -> bool:
        """Whether only certain API keys pass."""
        return self._access.checks_keys

    @property
    def worker_key(self) -> str:
        """What a worker from elsewhere may be given as `RUNPOD_AI_API_KEY`; it passes for such calls."""
        return self._access.worker_key if self.checks_keys else "anything"

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

    def scenario(self, endpoint_id: str) -> Scenario:
        """What is ordered for an endpoint: its stubs, and the faults that strike it.

        :raises EndpointNotFound: there is no such endpoint.
        """
        return self._scenarios[self.endpoint(endpoint_id)]

    def worker_kind(self, endpoint_id: str) -> WorkerKind:
        """Who runs the jobs of an endpoint.

        :raises EndpointNotFound: there is no such endpoint.
        """
        return worker_kind(self.endpoint(endpoint_id).config)

    def describe_handler(self, endpoint_id: str) -> str:
        """What the workers of an endpoint run, for a person; empty when it starts none.

        :raises EndpointNotFound: there is no such endpoint.
        """
        return self._staff.describe(self.endpoint(endpoint_id))

    def projects(self) -> dict[str, Project]:
        """The files of what can be reloaded, by endpoint."""
        projects = {
            endpoint_id: project_of(endpoint.config)
            for endpoint_id, endpoint in self._endpoints.items()
            if self.worker_kind(endpoint_id) is not WorkerKind.EXTERNAL
        }
        return {endpoint_id: project for endpoint_id, project in projects.items() if project is not None}

    async def reload(self, endpoint_id: str) -> bool:
        """Have workers with the handler's present code take over; jobs that run end on the old code.

        Returns whether a worker with the new code is being started; none is while no job asks for one.

        :raises HandlerError: the code cannot be loaded. Workers that are up with the old code go on serving;
            no process is started before the code has changed to something that can be.
        :raises EndpointNotFound: there is no such endpoint.
        """
        return await self._staff.reload(self.endpoint(endpoint_id))

    def images(self) -> list[str]:
        """The endpoints whose workers are containers of an image."""
        return [each.id for each in self._of_kind(WorkerKind.DOCKER)]

    async def reload_image(self, endpoint_id: str) -> bool:
        """Have workers of what the image's name points to now take over; whether that is another image.

        :raises EngineError: there is none of that name any more, or the engine does not answer.
        :raises EndpointNotFound: there is no such endpoint.
        """
        return await self._staff.reload_image(self.endpoint(endpoint_id))

    def worker_url(self, endpoint_id: str) -> str | None:
        """Where an endpoint's workers reach the emulator that are not on its loopback; None when they are.

        :raises EndpointNotFound: there is no such endpoint.
        """
        return self._staff.worker_url(self.endpoint(endpoint_id))

    @property
    def url(self) -> str:
        """Where it is served, e.g. `http://127.0.0.1:8000`; SDKs are given this and `/v2`.

        :raises EmulatorError: it is not being served.
        """
        if self._url is None:
            raise EmulatorError("the emulator is not served: use `async with emulator.serve():`")
        return self._url

    @property
    def app(self) -> EmulatorApp:
        """The ASGI application, for a server or for a client in this process.

        A server that runs it starts and stops the emulator with it.
        """
        from emulator.api.app import control_app

        # Now: later a test's mocks of time or files could be in its way.
        control_app()
        return self._app

    @cached_property
    def _app(self) -> EmulatorApp:
        from emulator.api.app import EmulatorApp
        from emulator.api.control.controls import Controls

        return EmulatorApp(
            default_endpoint_id=next(iter(self._endpoints)),
            access=self._access,
            guard=self._guard,
            origins=self._origins,
            rate_limits=self._rate_limits,
            controls=Controls(
                access=self._access,
                clock=self.clock,
                reset=self.reset,
                not_ready=lambda: self._obstacles,
                started_ms=lambda: self._started_ms,
                endpoints=self._endpoints,
                scenarios=self._scenarios,
                worker_kind=self.worker_kind,
                process_id=self._process_id,
                logs=self._logs,
                journal=self.journal,
                feed=self._feed,
                measures=self._measures,
                faults=self.faults,
                sinks=self._sinks,
                webhooks=self._webhooks,
                waits=self._waits,
                store=self.store,
                state=self._state,
                save_state=self.save_state,
                load_state=self.load_state,
                create_endpoint=self.create_endpoint,
                remove_endpoint=self.remove_endpoint,
                describe_handler=self.describe_handler,
                url=lambda: self._url,
                is_open=lambda: not (self._guard.loopback_only or self._access.checks_keys),
            ),
            lifespan=self._lifespan,
        )

    # Its life

    async def start(self) -> None:
        """Load the handlers and let jobs run.

        :raises HandlerError: a handler cannot be loaded; nothing has been started.
        :raises ConfigError: the S3 store cannot be started.
        :raises StateError: the state file cannot be used.
        :raises EmulatorError: it has been started before.
        """
        if self._started_ms is not None:
            raise EmulatorError("an Emulator is started once: make another one")
        try:
            if self.store is not None:
                await self.store.start()
            for endpoint in self._endpoints.values():
                await self._staff.prepare(endpoint, self._scenarios[endpoint].stubs)
            if self._state is not None:
                await self._state.open(self._served())
            for endpoint in self._of_kind(WorkerKind.DOCKER, WorkerKind.RAY):
                await self._staff.fetch(endpoint)
        except BaseException:
            # Those that did load have threads.
            await self._staff.close()
            if self.store is not None:
                await self.store.stop()
            raise
        self._started_ms = self.clock.now_ms()
        self._obstacles = self._unserved()
        for endpoint in self._of_kind(WorkerKind.INLINE, WorkerKind.EXTERNAL):
            await self._staff.open(endpoint, self._url, self._let_in)

    async def create_endpoint(
        self, endpoint_id: str, given: object = None, *, clock: str | None = None
    ) -> Endpoint:
        """Add an endpoint while others are served, or put it in the place of the one with this id.

        `given` is a handler or an `EndpointConfig`. With `clock` (`real`, `frozen`, `auto`, `scaled:N`) it
        has a time of its own: nobody else's moves with it.

        :raises HandlerError: the handler cannot be loaded; all is as it was.
        :raises ConfigError: the id, or a setting, is out of bounds.
        :raises ClockError: the clock's mode is none.
        :raises EmulatorError: its workers would be processes and nothing is served.
        """
        # With those that are being loaded.
        if len(self._scenarios) >= ENDPOINTS_MAX and endpoint_id not in self._endpoints:
            raise ConfigError(f"there are {ENDPOINTS_MAX} endpoints already: take some away")
        own_clock = self.clock if clock is None else clock_of(clock)
        endpoint = self._build_endpoint(_checked_id(endpoint_id), given, own_clock)
        if self._state is not None:
            self._state.follow(own_clock)
        if self._started_ms is not None:
            try:
                self._check_served(endpoint)
                await self._staff.prepare(endpoint, self._scenarios[endpoint].stubs)
                await self._staff.fetch(endpoint)
                self._check_served(endpoint)
            except BaseException:
                await self._staff.dismiss(endpoint)
                self._forget_endpoint(endpoint)
                raise
        # While one is taken away, somebody else may put another in its place.
        while endpoint_id in self._endpoints:
            await self.remove_endpoint(endpoint_id)
        self._endpoints[endpoint_id] = endpoint
        # It is no longer what the command line says.
        self._given -= {endpoint_id}
        if self._started_ms is not None:
            await self._staff.open(endpoint, self._url, self._let_in)
        return endpoint

    def _check_served(self, endpoint: Endpoint) -> None:
        if worker_kind(endpoint.config) in _SERVED and self._url is None:
            raise EmulatorError(_NEEDS_SERVING.format(endpoint.id))

    async def _add_endpoint(self, endpoint_id: str, config: EndpointConfig, clock: str | None) -> Endpoint:
        """Add an endpoint of an earlier process.

        :raises EmulatorError: its handler cannot be loaded, or a setting is none any more.
        """
        own_clock = self.clock if clock is None else clock_of(clock)
        endpoint = self._build_endpoint(_checked_id(endpoint_id), config, own_clock)
        try:
            await self._staff.prepare(endpoint, self._scenarios[endpoint].stubs)
        except EmulatorError:
            self._forget_endpoint(endpoint)
            raise
        self._endpoints[endpoint_id] = endpoint
        if self._state is not None:
            self._state.follow(own_clock)
        return endpoint

    def save_state(self, endpoint_id: str | None = None) -> State:
        """All that is kept of the emulator, or of an endpoint, as it stands.

        :raises EndpointNotFound: there is none with this id.
        """
        if endpoint_id is not None:
            self.endpoint(endpoint_id)
        return state_of_emulator(self._served(), endpoint_id)

    async def load_state(self, state: State, endpoint_id: str | None = None) -> int:
        """Go on from a state: in place of all that there is, or in an endpoint. Returns how many jobs it has.

        :raises StateError: it makes no sense, or an endpoint of it is not there; nothing has changed.
        :raises EndpointNotFound: there is none with this id.
        """
        endpoint = None if endpoint_id is None else self.endpoint(endpoint_id)
        retelling = for_emulator(self._served(), state, endpoint)
        if endpoint is None:
            await self.reset()
        ledger = None if self._state is None else self._state.ledger
        there = set(self._endpoints)
        await retelling.tell(self._served(), ledger)
        for added in self._endpoints.keys() - there:
            await self._staff.open(self._endpoints[added], self._url, self._let_in)
        return len(state.jobs)

    def _served(self) -> Served:
        return Served(
            clock=self.clock,
            endpoints=self._endpoints,
            scenarios=self._scenarios,
            faults=self.faults,
            webhooks=self._webhooks,
            given=lambda: self._given,
            add_endpoint=self._add_endpoint,
        )

    async def remove_endpoint(self, endpoint_id: str) -> None:
        """Take an endpoint away, with its jobs, its workers, and the faults ordered for it alone.

        :raises EndpointNotFound: there is none with this id.
        """
        endpoint = self.endpoint(endpoint_id)
        # From here on the id is free.
        del self._endpoints[endpoint_id]
        self.faults.clear(endpoint_id)
        async for _ in in_slices(endpoint.resetting(None)):
            pass
        endpoint.close()
        await self._staff.dismiss(endpoint)
        await self._webhooks.drop(endpoint)
        self._forget_endpoint(endpoint)

    def _forget_endpoint(self, endpoint: Endpoint) -> None:
        del self._scenarios[endpoint], self._measures[endpoint]
        endpoint.clock.forget_execution(endpoint.pool.is_executing)
        if endpoint.clock is not self.clock:
            endpoint.clock.close()

    async def stop(self) -> None:
        """End the workers, answer those who wait, and give webhook calls in flight two seconds."""
        if self._state is not None:
            await self._state.write()
        for endpoint in self._endpoints.values():
            endpoint.close()
        self._queue_watch.close()
        await self._staff.close()
        self._obstacles = [_NOT_RUNNING]
        await self._webhooks.close(_WEBHOOK_PATIENCE_S)
        if self._state is not None:
            await self._state.close()
        if self.store is not None:
            await self.store.stop()
        for clock in self._clocks():
            clock.close()

    async def reset(self) -> dict[str, dict[str, int]]:
        """Forget all jobs, webhooks, counters, stubs, faults, what sinks received, the objects of
        the S3 store and the journal; restart the workers. Clocks get their first modes back; endpoints stay.

        Returns per endpoint how many jobs and workers there were.
        """
        counts = {
            endpoint_id: await self._staff.reset(endpoint)
            for endpoint_id, endpoint in list(self._endpoints.items())
        }
        for endpoint in self._endpoints.values():
            self._scenarios[endpoint].clear()
        self.faults.clear()
        self._logs.clear()
        await self._webhooks.drop()
        self._sinks.clear()
        if self.store is not None:
            with suppress(StoreGone):
                await self.store.clear()
        self._rate_limits.reset()
        for clock in self._clocks():
            clock.restore()
        await _let_go_of(self.journal.clear())
        self._measures.update({endpoint: Measures(endpoint) for endpoint in self._measures})
        self._feed.add("reset", lambda: {"reset": counts})
        if self._state is not None:
            self._state.has_been_reset(self._endpoints.values())
        return counts

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls_port: int | None = None,
        control_when_asked: bool = False,
    ) -> Serving:
        """Serve over HTTP while a `with` block runs; port 0 is any that is free.

        `async with` gives the URL, in the loop in which the emulator was started. A plain `with` starts it
        too, in a thread of its own, and gives an `EmulatorClient`: for plain tests and scripts.

        :param tls_port: where it serves HTTPS beside it, for `api.runpod.ai` too; `tls` then says how it is
            reached. It needs the extra `tls`.
        :param control_when_asked: import the control API when it is first asked for something, which halves
            the start. In a test, mocks of time or files could be in its way by then.
        :raises ConfigError: the address cannot be bound, or there is no certificate to be had.
        """
        return Serving(
            self,
            lambda: self._serve(host, port, tls_port, control_when_asked=control_when_asked),
            self._access.any_key,
            self._code_token,
        )

    @asynccontextmanager
    async def _serve(
        self, host: str, port: int, tls_port: int | None, *, control_when_asked: bool
    ) -> AsyncIterator[str]:
        from emulator.serving.server import HTTPServer, listen, url_of
        from emulator.serving.workers_door import WorkersDoor

        listener = listen(host, port)
        self._guard.loopback_only = is_loopback(host)
        app = self._app if control_when_asked else self.app
        servers = [HTTPServer(app, listener)]
        if tls_port is not None:
            from emulator.serving.tls import LocalAuthority, ServedTLS

            try:
                authority = await asyncio.to_thread(LocalAuthority)
                secure = listen(host, tls_port, option="--tls-port")
            except ConfigError:
                listener.close()
                raise
            servers.append(HTTPServer(app, secure, authority.context()))
            self.tls = ServedTLS(url_of(secure, "https"), authority.certificate, authority.bundle)
        for server in servers:
            await server.start()
        self._url = url_of(listener)
        self._door = WorkersDoor(app, self._access.is_ours)
        self._obstacles = []
        if self._state is not None:
            self._state.served_at(self._url)
        try:
            for endpoint in self._of_kind(*_SERVED):
                await self._staff.open(endpoint, self._url, self._let_in)
            yield self._url
        finally:
            if self._state is not None:
                # What workers bring from here on would be dropped: they are to bring it to the next one.
                self._obstacles = [_STOPPING]
                await self._state.write()
            self._url = self.tls = None
            self._logs.release()
            self._waits.release()
            self._feed.release()
            await self._staff.close_processes(self._of_kind(*_SERVED))
            self._obstacles = self._unserved()
            for endpoint in self._endpoints.values():
                endpoint.release_waiters()
            await self._door.close(_ANSWER_PATIENCE_S)
            await asyncio.gather(*(server.stop(_ANSWER_PATIENCE_S) for server in servers))

    async def _let_in(self, find_way: Callable[[], Awaitable[Reach]]) -> str:
        """Let workers in that are not on loopback; returns the URL at which they call."""
        from emulator.serving.workers_door import open_as

        assert self._door is not None
        if self._worker_address is not None:
            return await open_as(self._door, self._worker_address)
        way = await find_way()
        return f"http://{way.called}:{await self._door.open(way.listens_on)}"

    @asynccontextmanager
    async def _lifespan(self, _app: object) -> AsyncIterator[None]:
        if self._started_ms is None:
            async with self:
                yield
        else:
            yield

    def _of_kind(self, *kinds: WorkerKind) -> list[Endpoint]:
        return [each for each in self._endpoints.values() if worker_kind(each.config) in kinds]

    def _unserved(self) -> list[str]:
        return [_NEEDS_SERVING.format(each.id) for each in self._of_kind(*_SERVED)]

    def _clocks(self) -> set[Clock]:
        return {self.clock, *(endpoint.clock for endpoint in self._endpoints.values())}

    def _process_id(self, endpoint_id: str, worker_id: str) -> int | None:
        return self._staff.process_id(self._endpoints[endpoint_id], worker_id)

    def _build_endpoint(self, endpoint_id: str, given: object, clock: Clock) -> Endpoint:
        config = given if isinstance(given, EndpointConfig) else EndpointConfig(handler=given)
        config = with_module_as_command(config)
        endpoint = Endpoint(endpoint_id, config, clock, self._telling.on_event)
        tell = partial(self._telling.on_event, endpoint)
        self._scenarios[endpoint] = Scenario(endpoint, self.faults, tell)
        self._measures[endpoint] = Measures(endpoint)
        clock.tells_execution(endpoint.pool.is_executing)
        return endpoint


async def _let_go_of(things: list[Entry]) -> None:
    """One by one, while others are served: with the last that is left of a million jobs their memory goes
    back to the system, which takes long.
    """
    async for _ in in_slices(range(len(things))):
        things.pop()


def _checked_id(endpoint_id: str) -> str:
    if not endpoint_id or not all(character.isalnum() or character in "-_." for character in endpoint_id):
        raise ConfigError(f"{endpoint_id!r} cannot be an endpoint id: use letters, digits and -_.")
    return endpoint_id
