"""One endpoint, as its clients and its test see it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from emulator.client.clock import ClockClient
from emulator.client.faults import FaultsClient
from emulator.client.job import JobClient
from emulator.client.journal import JournalClient
from emulator.client.sink import SinkClient
from emulator.client.stubs import StubClient
from emulator.errors import ConfigError

if TYPE_CHECKING:
    import httpx

    from emulator.client.connection import Connection

_WAIT_S = 90.0


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """A call that the endpoint received."""

    operation: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    #: Parsed when it is JSON, else text; secrets are masked.
    body: Any
    #: What was answered; None when the connection was cut.
    status: int | None
    response: Any
    job_id: str | None
    #: The id of the ordered fault that struck.
    fault: str | None
    at_ms: int

    @property
    def input(self) -> Any:
        """The input of a job that was submitted."""
        return self.body.get("input") if isinstance(self.body, dict) else None


class EndpointClient:
    """An endpoint: `url` is what a client under test is given."""

    def __init__(self, connection: Connection, endpoint_id: str) -> None:
        self._connection = connection
        self.id = endpoint_id
        self.clock = ClockClient(connection, endpoint_id)
        self.faults = FaultsClient(connection, endpoint_id)
        self.journal = JournalClient(connection, endpoint_id)
        self._stubs: list[StubClient] = []

    def __repr__(self) -> str:
        return f"<EndpointClient {self.url}>"

    @property
    def url(self) -> str:
        """Where its operations are, e.g. `http://127.0.0.1:8000/v2/my-endpoint`."""
        return f"{self._connection.url}/v2/{self.id}"

    @property
    def api_key(self) -> str:
        """A key that passes."""
        return self._connection.api_key

    @cached_property
    def client(self) -> httpx.Client:
        """A plain HTTP client for its operations: `endpoint.client.post("run", json={…})`."""
        return self._connection.new_http_client(f"{self.url}/")

    # What its clients do

    def submit(self, input: Any, **fields: Any) -> JobClient:
        """Queue a job (`/run`); `fields` are `webhook`, `policy` and whatever else the request has.

        :raises CallRefused: it is refused.
        :raises ConfigError: there is a `when(…)` that does not say what becomes of its jobs.
        """
        self.check_stubs()
        answer = self._connection.call("POST", f"{self.id}/run", {"input": input, **fields})
        return JobClient(self._connection, self.id, answer["id"])

    def runsync(self, input: Any, **fields: Any) -> dict[str, Any]:
        """Queue a job and wait for its end (`/runsync`); returns the body of the answer.

        :raises CallRefused: it is refused.
        :raises TimeoutError: the job waits for a clock that is frozen; says for what.
        """
        self.check_stubs()
        body = {"input": input, **fields}
        answer: dict[str, Any] = self._connection.call("POST", f"{self.id}/runsync", body, wait_s=_WAIT_S)
        return answer

    def wait(self, job: JobClient | str, timeout_s: float = 30.0) -> JobClient:
        """Wait, in real time, for the end of a job; returns it.

        :raises TimeoutError: it has not ended by then; says what has happened so far.
        """
        return self.job(job if isinstance(job, str) else job.id).wait(timeout_s)

    def health(self) -> dict[str, dict[str, int]]:
        """How many jobs and workers are in each state (`/health`)."""
        answer: dict[str, dict[str, int]] = self._connection.call("GET", f"{self.id}/health")
        return answer

    def purge_queue(self) -> int:
        """Cancel all queued jobs (`/purge-queue`); returns how many there were."""
        return int(self._connection.call("POST", f"{self.id}/purge-queue")["removed"])

    # What its test does

    def when(self, input: object = None) -> StubClient:
        """Define how jobs with such an input end: `when(input={"prompt": "hi"}).returns({"text": "ho"})`.

        `input` may be any value: objects match when each of their keys does. Keys like `"$.a[0].b"` are JSON
        paths; values may be compiled patterns, and functions that return whether they accept what is there.
        Without one all jobs match.
        """
        self._stubs.append(StubClient(self._connection, self.id, input))
        return self._stubs[-1]

    def check_stubs(self) -> None:
        """See to it that each `when(…)` says what becomes of the jobs it is for.

        :raises ConfigError: one does not.
        """
        stubs, self._stubs = self._stubs, []
        if unfinished := next(filter(None, (stub.says_nothing for stub in stubs)), ""):
            raise ConfigError(unfinished)

    def job(self, job_id: str) -> JobClient:
        """A job by its id."""
        return JobClient(self._connection, self.id, job_id)

    @property
    def jobs(self) -> list[JobClient]:
        """Its jobs, in order of submission, with those whose ttl has run out; results that have been there
        for production's 30 minutes (1 of /runsync) are left out.
        """
        listed = self._connection.control("GET", "/jobs", endpoint=self.id, limit=10_000)["jobs"]
        return [self.job(each["id"]) for each in reversed(listed)]

    @property
    def requests(self) -> list[EndpointRequest]:
        """The calls it has received, oldest first."""
        return [_request(entry) for entry in self.journal.find(kind="api")]

    def sink(self, name: str | None = None) -> SinkClient:
        """A webhook receiver; its name is the endpoint's unless another is given."""
        return SinkClient(self._connection, name or self.id, self.id)

    def load_state(self, lines: str) -> int:
        """Have it go on from a state: the lines of JSON that `runpod-emulator state export` writes, of one
        endpoint. Returns how many jobs there were.

        :raises Refused: the lines are none of a state.
        """
        state = [json.loads(line) for line in lines.splitlines() if line.strip()]
        return int(self._connection.control("POST", "/state/load", state, endpoint=self.id)["jobs"])

    def remove(self) -> None:
        """Take it away, with its jobs and workers."""
        self._connection.control("DELETE", f"/endpoints/{self.id}")
        if "client" in self.__dict__:
            self.client.close()


def _request(entry: dict[str, Any]) -> EndpointRequest:
    return EndpointRequest(
        operation=entry["operation"],
        method=entry["method"],
        path=entry["path"],
        query=entry["query"],
        headers=entry["request"]["headers"],
        body=entry["request"]["body"],
        status=entry["status"],
        response=entry["response"]["body"],
        job_id=entry["job_id"],
        fault=entry["fault"],
        at_ms=entry["at_ms"],
    )
