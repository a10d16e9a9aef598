"""HTTP out: telling a job's webhook that it has ended (wire.md 5)."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from emulator.core.json_text import NotJSON
from emulator.core.status_body import webhook_body
from emulator.history.journal import Entry, EntryKind
from emulator.history.recent import Recent
from emulator.scenario.fault_rule import Point
from emulator.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx

    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job
    from emulator.history.journal import Journal
    from emulator.scenario.fault_rule import FaultRule
    from emulator.scenario.scenario import Scenario

log = logging.getLogger("emulator.webhooks")

ATTEMPTS = 3
RETRY_DELAY_MS = 10_000
#: An attempt that has no answer by then has failed [J: production's is not published].
ATTEMPT_TIMEOUT_MS = 10_000
#: Calls to one receiver at a time: a slow one keeps its own waiting, not the others.
_CALLS_PER_RECEIVER = 32
#: Real seconds for which an attempt holds back a clock that is being advanced.
_PATIENCE_S = 3.0
_IMPORT_PATIENCE_S = 30.0
#: The newest deliveries are remembered, to be looked at and sent again.
_DELIVERIES_KEPT = 1_000
_BYTES_KEPT = 32 * 1024 * 1024


@dataclass(slots=True, frozen=True)
class Attempt:
    """One call of a webhook: when (ms since the epoch), what was answered, what was wrong with it."""

    at_ms: int
    status: int | None
    failure: str | None


@dataclass(slots=True, eq=False)
class Delivery:
    """One end of one job, on its way to its webhook."""

    number: int
    endpoint: Endpoint
    job_id: str
    url: str
    #: The job as it was when it ended: it may be retried and change before this is delivered.
    body: bytes
    attempts: list[Attempt] = field(default_factory=list)
    #: No attempt will follow.
    over: bool = False

    @property
    def receiver(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port}"

    @property
    def shown_url(self) -> str:
        """The URL without what may be secret in it: user, password and query."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def delivered(self) -> bool:
        """Whether the last attempt was acknowledged."""
        return bool(self.attempts) and self.attempts[-1].failure is None


class _AttemptEntry(Entry):
    """An attempt as the journal keeps it."""

    __slots__ = ("_attempt", "_delivery", "_number")

    kind = EntryKind.WEBHOOK

    def __init__(self, delivery: Delivery, attempt: Attempt, fault_id: str | None) -> None:
        super().__init__(delivery.endpoint.id, attempt.at_ms, fault_id)
        self._delivery = delivery
        self._attempt = attempt
        self._number = len(delivery.attempts)

    @property
    def job_id(self) -> str | None:
        return self._delivery.job_id

    @property
    def size(self) -> int:
        return 300 + len(self._delivery.body)

    def details(self) -> dict[str, Any]:
        return {
            "delivery": self._delivery.number,
            "attempt": self._number,
            "url": self._delivery.shown_url,
            "status": self._attempt.status,
            "failure": self._attempt.failure,
            "body": json.loads(self._delivery.body),
        }

    def line(self) -> str:
        outcome = self._attempt.failure or self._attempt.status
        return f"webhook {self._delivery.shown_url}, attempt {self._number} → {outcome}"


class Webhooks:
    """Delivers concurrently: up to three attempts each, ten seconds apart on the endpoint's clock."""

    def __init__(self, journal: Journal, scenarios: Mapping[Endpoint, Scenario]) -> None:
        self._journal = journal
        self._scenarios = scenarios
        self._tasks: dict[Delivery, asyncio.Task[None]] = {}
        #: The deliveries whose receiver has been called and has not answered yet.
        self._calling: set[Delivery] = set()
        self._receivers: dict[str, asyncio.Semaphore] = {}
        self._deliveries = Recent[Delivery](_DELIVERIES_KEPT, _BYTES_KEPT)
        self._made = 0
        self._client: httpx.AsyncClient | None = None
        self._client_made: asyncio.Lock | None = None
        self._closing = False

    def __iter__(self) -> Iterator[Delivery]:
        """The newest deliveries, oldest first."""
        return iter(self._deliveries)

    def on_job_moved(self, job: Job, endpoint: Endpoint) -> None:
        """Begin a delivery when a job with a webhook has ended."""
        if job.webhook is None or not job.terminal:
            return
        try:
            body = webhook_body(job)
        except (RecursionError, NotJSON):
            # The job has ended all the same: whoever tells of it must not keep it from ending.
            log.warning("webhook of job %s is not sent: its input is nested too deeply", job.id)
            return
        self._send(endpoint, job.id, job.webhook, body)

    def redeliver(self, number: int) -> Delivery | None:
        """Send a delivery's body once more, as a new delivery; None when it is not known."""
        for delivery in self._deliveries:
            if delivery.number == number:
                return self._send(delivery.endpoint, delivery.job_id, delivery.url, delivery.body)
        return None

    async def drop(self, endpoint: Endpoint | None = None) -> None:
        """Drop everything that is under way, and forget what was: of one endpoint, or of all."""

        def is_to_go(delivery: Delivery) -> bool:
            return endpoint in (None, delivery.endpoint)

        tasks = [task for delivery, task in self._tasks.items() if is_to_go(delivery)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._deliveries.forget(is_to_go)

    async def close(self, patience_s: float) -> list[Delivery]:
        """Give the calls in flight `patience_s` real seconds; returns what could not be delivered."""
        self._closing = True
        under_way = dict(self._tasks)
        for delivery, task in under_way.items():
            if delivery not in self._calling:
                task.cancel()
        if under_way:
            await asyncio.wait(under_way.values(), timeout=patience_s)
        await self.drop()
        if self._client is not None:
            await self._client.aclose()
        undelivered = [delivery for delivery, task in under_way.items() if task.cancelled()]
        for delivery in undelivered:
            log.warning("webhook of job %s was not delivered: %s", delivery.job_id, delivery.shown_url)
        return undelivered

    def _send(self, endpoint: Endpoint, job_id: str, url: str, body: bytes) -> Delivery:
        self._made += 1
        delivery = Delivery(self._made, endpoint, job_id, url, body)
        self._deliveries.add(delivery, len(body))
        task = asyncio.get_running_loop().create_task(self._deliver(delivery))
        self._tasks[delivery] = task
        task.add_done_callback(lambda _: self._on_over(delivery))
        return delivery

    def _on_over(self, delivery: Delivery) -> None:
        delivery.over = True
        self._tasks.pop(delivery, None)

    async def _deliver(self, delivery: Delivery) -> None:
        clock = delivery.endpoint.clock
        client = await self._ready_client(delivery)
        receiver = self._receivers.setdefault(delivery.receiver, asyncio.Semaphore(_CALLS_PER_RECEIVER))
        for attempt in range(1, ATTEMPTS + 1):
            with clock.activity(_PATIENCE_S):
                async with receiver:
                    failure = await self._attempt(client, delivery)
            if failure is None:
                return
            log.warning(
                "webhook of job %s, attempt %d of %d: %s → %s%s",
                delivery.job_id, attempt, ATTEMPTS, delivery.shown_url, failure,
                f"; again in {RETRY_DELAY_MS} ms" if attempt < ATTEMPTS else "; given up",
            )  # fmt: skip
            if attempt < ATTEMPTS:
                if self._closing:
                    raise asyncio.CancelledError
                await clock.sleep(RETRY_DELAY_MS, "webhook retry", delivery.job_id)

    async def _attempt(self, client: httpx.AsyncClient, delivery: Delivery) -> str | None:
        """Make one attempt, as an ordered fault will have it; returns what was wrong, None when nothing."""
        rule = self._scenarios[delivery.endpoint].effects.strike(
            Point.WEBHOOK, lambda: json.loads(delivery.body)["input"], job_id=delivery.job_id
        )
        if rule is not None and rule.effect == "webhook_delay_ms":
            await delivery.endpoint.clock.sleep(rule.value, "ordered webhook delay", delivery.job_id)
        if rule is not None and rule.value == "refuse":
            refusal = "ConnectError: ordered: the connection is refused"
            self._note(delivery, None, refusal, rule)
            return refusal
        failure = await self._call(client, delivery, rule)
        if failure is None and rule is not None and rule.value == "duplicate":
            failure = await self._call(client, delivery, rule)
        return failure

    async def _call(
        self, client: httpx.AsyncClient, delivery: Delivery, rule: FaultRule | None
    ) -> str | None:
        """Call the receiver once; returns what was wrong with its answer, None when it acknowledged."""
        clock = delivery.endpoint.clock
        call = asyncio.get_running_loop().create_task(_post(client, delivery))
        timer = clock.call_later(ATTEMPT_TIMEOUT_MS, "webhook time-out", asyncio.Task.cancel, call)
        self._calling.add(delivery)
        try:
            await asyncio.wait({call})
        finally:
            self._calling.discard(delivery)
            clock.cancel(timer)
            call.cancel()
        status, failure = _outcome(call)
        self._note(delivery, status, failure, rule)
        if failure is None and status == HTTPStatus.OK:
            log.info(
                "webhook of job %s, attempt %d: %s → 200",
                delivery.job_id, len(delivery.attempts), delivery.shown_url,
            )  # fmt: skip
        elif failure is None:
            log.warning(
                "webhook of job %s, attempt %d: %s → %d counts as received, but the documents ask for 200",
                delivery.job_id, len(delivery.attempts), delivery.shown_url, status,
            )  # fmt: skip
        return failure

    def _note(
        self, delivery: Delivery, status: int | None, failure: str | None, rule: FaultRule | None
    ) -> None:
        attempt = Attempt(delivery.endpoint.clock.now_ms(), status, failure)
        delivery.attempts.append(attempt)
        self._journal.add(_AttemptEntry(delivery, attempt, None if rule is None else rule.id))

    async def _ready_client(self, delivery: Delivery) -> httpx.AsyncClient:
        if self._client_made is None:
            self._client_made = asyncio.Lock()
        # Importing httpx and loading its certificates takes too long for the event loop.
        with delivery.endpoint.clock.activity(_IMPORT_PATIENCE_S):
            async with self._client_made:
                if self._client is None:
                    self._client = await asyncio.to_thread(_new_client)
        return self._client


def _outcome(call: asyncio.Task[int]) -> tuple[int | None, str | None]:
    """The status that was answered, and what was wrong."""
    if call.cancelled():
        return None, f"no answer within {ATTEMPT_TIMEOUT_MS} ms"
    if (error := call.exception()) is not None:
        return None, f"{type(error).__name__}: {error}"
    status = call.result()
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return status, f"status {status}"
    return status, None


def _new_client() -> httpx.AsyncClient:
    import httpx

    return httpx.AsyncClient(
        # Time-outs are the emulator's clock's, waiting turns are the semaphores'; no proxy of the
        # user's environment stands between here and localhost.
        timeout=None,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=_CALLS_PER_RECEIVER),
        follow_redirects=False,
        trust_env=False,
        headers={"content-type": "application/json", "user-agent": f"runpod-emulator/{__version__}"},
    )


async def _post(client: httpx.AsyncClient, delivery: Delivery) -> int:
    # The answer's body is of no interest, however long it is.
    async with client.stream("POST", delivery.url, content=delivery.body) as response:
        return response.status_code
