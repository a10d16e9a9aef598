"""What the control API can do to the emulator, and how it refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.core.json_text import encode
from emulator.errors import EmulatorError, EndpointNotFound, JobNotFound

if TYPE_CHECKING:
    from emulator.api.auth import Access
    from emulator.api.waits import Waits
    from emulator.clock.clock import Clock
    from emulator.core.config import WorkerKind
    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job
    from emulator.core.worker import Worker
    from emulator.history.event_feed import EventFeed
    from emulator.history.journal import Journal
    from emulator.history.measures import Measures
    from emulator.history.worker_logs import WorkerLogs
    from emulator.ledger.json_lines import State
    from emulator.ledger.state_file import StateFile
    from emulator.s3.store import LocalStore
    from emulator.scenario.faults import Faults
    from emulator.scenario.scenario import Scenario
    from emulator.webhooks.deliveries import Webhooks
    from emulator.webhooks.sinks import Sinks


#: Under this a request's scope has those of the emulator that got it.
CONTROLS = "emulator.controls"


@dataclass(slots=True, frozen=True, kw_only=True)
class Controls:
    """What the control API can do to the emulator."""

    #: Who may do what.
    access: Access
    clock: Clock
    #: Forgets all jobs and restarts the workers; returns per endpoint how many there were.
    reset: Callable[[], Awaitable[dict[str, dict[str, int]]]]
    #: Why jobs cannot run yet, a sentence each.
    not_ready: Callable[[], list[str]]
    #: When the emulator started, ms since the epoch; None before.
    started_ms: Callable[[], int | None]
    endpoints: Mapping[str, Endpoint]
    #: What is ordered for each of them.
    scenarios: Mapping[Endpoint, Scenario]
    #: Who runs the jobs of an endpoint.
    worker_kind: Callable[[str], WorkerKind]
    #: The number of a worker's process, by endpoint and worker.
    process_id: Callable[[str, str], int | None]
    logs: WorkerLogs
    journal: Journal
    feed: EventFeed
    #: The figures of each endpoint.
    measures: Mapping[Endpoint, Measures]
    faults: Faults
    sinks: Sinks
    webhooks: Webhooks
    #: What clients wait for here.
    waits: Waits
    #: The local S3 store; None where none was asked for.
    store: LocalStore | None
    #: The file that the state is kept in; None where it is not.
    state: StateFile | None
    #: The state of an endpoint, or of all; and how to go on from one.
    save_state: Callable[[str | None], State]
    load_state: Callable[[State, str | None], Awaitable[int]]
    #: Adds an endpoint: its id, its config, and the mode of its own clock, if it is to have one.
    create_endpoint: Callable[..., Awaitable[Endpoint]]
    remove_endpoint: Callable[[str], Awaitable[None]]
    #: What the workers of an endpoint run, for a person.
    describe_handler: Callable[[str], str]
    #: Where it is served; None while it is not.
    url: Callable[[], str | None]
    #: Whether others than this machine may reach it, and no key is asked for.
    is_open: Callable[[], bool]

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """An endpoint.

        :raises ControlError: there is none with this id.
        """
        if endpoint_id not in self.endpoints:
            known = ", ".join(self.endpoints)
            raise ControlError(
                404, "not_found", f"there is no endpoint {endpoint_id!r}: there is {known}",
                "PUT /_emulator/endpoints/{id} adds one",
            )  # fmt: skip
        return self.endpoints[endpoint_id]

    def scenario(self, endpoint_id: str) -> Scenario:
        """What is ordered for an endpoint.

        :raises ControlError: there is no such endpoint.
        """
        return self.scenarios[self.endpoint(endpoint_id)]

    def clock_of(self, endpoint_id: str | None) -> Clock:
        """The clock of an endpoint, or the emulator's.

        :raises ControlError: there is no such endpoint.
        """
        return self.clock if endpoint_id is None else self.endpoint(endpoint_id).clock

    def find_worker(self, worker_id: str) -> tuple[Endpoint, Worker]:
        """A worker, and its endpoint.

        :raises ControlError: it is unknown, or has gone.
        """
        for endpoint in self.endpoints.values():
            if (worker := endpoint.pool.get(worker_id)) is not None:
                return endpoint, worker
        raise ControlError(404, "not_found", f"there is no worker {worker_id!r}", "see /_emulator/workers")

    def find_job(self, job_id: str) -> tuple[Endpoint, Job]:
        """A job, and its endpoint.

        :raises ControlError: it is unknown.
        """
        for endpoint in self.endpoints.values():
            with suppress(JobNotFound):
                return endpoint, endpoint.look_up(job_id)
        raise ControlError(404, "not_found", f"there is no job {job_id!r}: it is unknown or has expired")


class ControlError(Exception):
    """The control API refuses a request."""

    def __init__(self, status: int, code: str, message: str, hint: str = "see /_emulator/docs") -> None:
        super().__init__(message)
        self.status = status
        self._content = {"error": {"code": code, "message": message, "hint": hint}}

    def body(self) -> bytes:
        """The answer's body."""
        return encode(self._content)


def refusal_of(error: EmulatorError) -> ControlError:
    """The refusal for what went wrong."""
    if isinstance(error, JobNotFound | EndpointNotFound):
        return ControlError(404, "not_found", str(error))
    return ControlError(400, "invalid_request", str(error))
