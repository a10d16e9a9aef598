"""HTTP out: telling a job's webhook that it has ended (wire.md 5)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from emulator.clock.real_time import next_round
from emulator.core.json_text import NotJSON
from emulator.core.status_body import webhook_body
from emulator.errors import NotKept
from emulator.history.journal import Entry, EntryKind
from emulator.history.recent import Recent
from emulator.masking import masked_body, masked_url
from emulator.scenario.fault_rule import Point
from emulator.version import __version__
from emulator.webhooks.call import (
    CONNECT_PATIENCE_S,
    Answered,
    ReceiverCall,
    failure_of,
    nobody_listens,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx

    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job
    from emulator.history.journal import Journal
    from emulator.scenario.fault_rule import FaultRule
    from emulator.scenario.scenario import Scenario
    from emulator.webhooks.keeping import DeliveryKeeper

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
#: Real seconds from one try to have the end of a job on disk to the next.
_TRIED_AGAIN_S = 1.0
#: The newest deliveries are remembered, to be looked at and sent again.
_DELIVERIES_KEPT = 1_000
_BYTES_KEPT = 32 * 1024 * 1024


@dataclass(slots=True, frozen=True)
class Attempt:
    """One call of a webhook: from when to when (ms since the epoch), what was answered, what was wrong."""

    at_ms: int
    status: int | None
    failure: str | None
    began_ms: int
    #: How the answer's body begins.
    answer: str = ""


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
    #: The number of the next attempt, and when it is due, ms since the epoch; 0 is at once.
    next_attempt: int = 1
    due_ms: int = 0

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        return len(self.body)

    @property
    def receiver(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port}"

    @property
    def shown_url(self) -> str:
        """The URL without what may be secret in it: user, password and query."""
        return masked_url(self.url)

    @property
    def delivered(self) -> bool:
        """Whether the last attempt was acknowledged."""
        return bool(self.attempts) and self.attempts[-1].failure is None


class _AttemptEntry(Entry):
    """An attempt as the journal keeps it."""

    __slots__ = ("_attempt", "_delivery", "_number")

    kind = EntryKind.WEBHOOK

    def __init__(self, delivery: Delivery, attempt: Attempt, fault_id: str | None) -> None:
        super().__init__(delivery.endpoint.id, attempt.at_ms, 300 + len(delivery.body), fault_id)
        self._delivery = delivery
        self._attempt = attempt
        self._number = len(delivery.attempts)

    @property
    def job_id(self) -> str | None:
        return self._delivery.job_id

    def details(self) -> dict[str, Any]:
        return {
            "delivery": self._delivery.number,
            "attempt": self._number,
            "url": self._delivery.shown_url,
            "status": self._attempt.status,
            "failure": self._attempt.failure,
            "began_ms": self._attempt.began_ms,
            "body": masked_body(self._delivery.body),
        }

    def news(self) -> dict[str, Any]:
        return {
            **self.outline(),
            "delivery": self._delivery.number,
            "attempt": self._number,
            "url": self._delivery.shown_url,
            "status": self._attempt.status,
            "failure": self._attempt.failure,
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
        #: A receiver is forgotten once nobody calls it.
        self._receivers: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        #: Those that were given up and are not over yet are among them.
        self._calls: set[ReceiverCall] = set()
        self._deliveries = Recent[Delivery](_DELIVERIES_KEPT, _BYTES_KEPT)
        self._made = 0
        #: By endpoint, how many calls were answered with each status, or `failed` without one.
        self.answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._client: httpx.AsyncClient | None = None
        self._client_made: asyncio.Lock | None = None
        self._closing = False
        #: Who has deliveries outlive the process; None where nobody does.
        self.keeper: DeliveryKeeper | None = None

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

    def get(self, number: int) -> Delivery | None:
        """A delivery that is still remembered."""
        return next((each for each in self._deliveries if each.number == number), None)

    def redeliver(self, delivery: Delivery, url: str | None = None) -> Delivery:
        """Send a delivery's body once more, as a new delivery, to where it went or to another URL."""
        return self._send(delivery.endpoint, delivery.job_id, url or delivery.url, delivery.body)

    def resume(self, delivery: Delivery, *, is_new: bool = False) -> None:
        """Go on with a delivery of another process, at the attempt that it was at; one that `is_new` gets a
        number of its own.
        """
        if is_new:
            self._made += 1
            delivery.number = self._made
            if self.keeper is not None:
                self.keeper.changed(delivery)
        self._begin(delivery)

    def number_after(self, number: int) -> None:
        """Give deliveries that come higher numbers than this."""
        self._made = max(self._made, number)

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
        if over := [call.task for call in self._calls]:
            _, connecting = await asyncio.wait(over, timeout=patience_s)
            for call in connecting:
                call.cancel()
        if self._client is not None:
            await self._client.aclose()
        undelivered = [delivery for delivery, task in under_way.items() if task.cancelled()]
        for delivery in undelivered:
            log.warning("webhook of job %s was not delivered: %s", delivery.job_id, delivery.shown_url)
        return undelivered

    def _send(self, endpoint: Endpoint, job_id: str, url: str, body: bytes) -> Delivery:
        self._made += 1
        delivery = Delivery(self._made, endpoint, job_id, url, body)
        if self.keeper is not None:
            self.keeper.changed(delivery)
        self._begin(delivery)
        return delivery

    def _begin(self, delivery: Delivery) -> None:
        self._deliveries.add(delivery)
        task = asyncio.get_running_loop().create_task(self._deliver(delivery))
        self._tasks[delivery] = task
        task.add_done_callback(partial(self._on_over, delivery))

    def _on_over(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        delivery.over = True
        self._tasks.pop(delivery, None)
        if self.keeper is not None and not (task.cancelled() and self._closing):
            # What could not be delivered before the end is for the next process.
            self.keeper.gone(delivery)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "webhook of job %s is given up: this is a bug of the emulator",
                delivery.job_id,
                exc_info=error,
            )
            failure = f"a bug of the emulator: {type(error).__name__}"
            self._note(delivery, Answered(None, failure), delivery.endpoint.clock.now_ms(), None)

    async def _deliver(self, delivery: Delivery) -> None:
        clock = delivery.endpoint.clock
        client = await self._ready_client(delivery)
        receiver = self._receivers.setdefault(delivery.receiver, asyncio.Semaphore(_CALLS_PER_RECEIVER))
        if (wait_ms := delivery.due_ms - clock.now_ms()) > 0:
            await clock.sleep(wait_ms, "webhook retry", delivery.job_id)
        with clock.activity(_PATIENCE_S):
            if not await self._is_kept(delivery):
                return
        for attempt in range(delivery.next_attempt, ATTEMPTS + 1):
            with clock.activity(_PATIENCE_S):
                failure = await self._attempt(client, receiver, delivery)
            if failure is None:
                return
            log.warning(
                "webhook of job %s, attempt %d of %d: %s → %s%s",
                delivery.job_id, attempt, ATTEMPTS, delivery.shown_url, failure,
                f"; again in {RETRY_DELAY_MS} ms" if attempt < ATTEMPTS else "; given up",
            )  # fmt: skip
            if attempt < ATTEMPTS:
                delivery.next_attempt, delivery.due_ms = attempt + 1, clock.now_ms() + RETRY_DELAY_MS
                if self.keeper is not None:
                    self.keeper.changed(delivery)
                if self._closing:
                    raise asyncio.CancelledError
                await clock.sleep(RETRY_DELAY_MS, "webhook retry", delivery.job_id)

    async def _is_kept(self, delivery: Delivery) -> bool:
        """Return when the end of the job is on disk: whoever is told of it is told the truth. False when the
        job had to be taken back.
        """
        while self.keeper is not None and not self.keeper.has_refused(delivery.job_id):
            try:
                await self.keeper.kept()
            except NotKept:
                await next_round(_TRIED_AGAIN_S)
            else:
                break
        return self.keeper is None or not self.keeper.has_refused(delivery.job_id)

    async def _attempt(
        self, client: httpx.AsyncClient, receiver: asyncio.Semaphore, delivery: Delivery
    ) -> str | None:
        """Make one attempt, as an ordered fault will have it; returns what was wrong, None when nothing."""
        rule = self._scenarios[delivery.endpoint].effects.strike(
            Point.WEBHOOK, lambda: json.loads(delivery.body)["input"], job_id=delivery.job_id
        )
        if rule is not None and rule.effect == "webhook_delay_ms":
            await delivery.endpoint.clock.sleep(rule.value, "ordered webhook delay", delivery.job_id)
        if rule is not None and rule.value == "refuse":
            refusal = f"ordered: {nobody_listens(delivery.url)}"
            self._note(delivery, Answered(None, refusal), delivery.endpoint.clock.now_ms(), rule)
            return refusal
        failure = await self._call(client, receiver, delivery, rule)
        if failure is None and rule is not None and rule.value == "duplicate":
            failure = await self._call(client, receiver, delivery, rule)
        return failure

    async def _call(
        self,
        client: httpx.AsyncClient,
        receiver: asyncio.Semaphore,
        delivery: Delivery,
        rule: FaultRule | None,
    ) -> str | None:
        """Call the receiver once; returns what was wrong with its answer, None when it acknowledged."""
        clock = delivery.endpoint.clock
        began_ms = clock.now_ms()
        await receiver.acquire()
        call = ReceiverCall(client, delivery.url, delivery.body)
        call.when_over(receiver.release)
        call.when_over(partial(self._calls.discard, call))
        self._calls.add(call)
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = clock.call_later(ATTEMPT_TIMEOUT_MS, "webhook time-out", _end, over)
        self._calling.add(delivery)
        try:
            await call.answered_or(over)
        finally:
            self._calling.discard(delivery)
            clock.cancel(timer)
        answered = _outcome(call.task, delivery.url)
        status, failure = answered.status, answered.failure
        if failure is None and self.keeper is not None:
            self.keeper.gone(delivery)
            with suppress(NotKept):
                await self.keeper.kept()
        self._note(delivery, answered, began_ms, rule)
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

    def _note(self, delivery: Delivery, answered: Answered, began_ms: int, rule: FaultRule | None) -> None:
        now_ms = delivery.endpoint.clock.now_ms()
        attempt = Attempt(now_ms, answered.status, answered.failure, began_ms, answered.body)
        delivery.attempts.append(attempt)
        self.answers[delivery.endpoint.id][str(attempt.status or "failed")] += 1
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


def _end(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def _outcome(call: asyncio.Task[Answered], url: str) -> Answered:
    """What was answered, and what was wrong with it."""
    if not call.done() or call.cancelled():
        return Answered(None, f"no answer within {ATTEMPT_TIMEOUT_MS} ms")
    if (error := call.exception()) is not None:
        return Answered(None, failure_of(error, url))
    return call.result()


def _new_client() -> httpx.AsyncClient:
    import httpx

    from emulator.http_transport import AsyncTransport

    return httpx.AsyncClient(
        # The time-out is the emulator's clock's, beyond what it takes to connect; waiting turns are the
        # semaphores'; no proxy of the user's environment stands between here and localhost.
        timeout=httpx.Timeout(None, connect=CONNECT_PATIENCE_S),
        transport=AsyncTransport(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=_CALLS_PER_RECEIVER)
        ),
        follow_redirects=False,
        trust_env=False,
        headers={"content-type": "application/json", "user-agent": f"runpod-emulator/{__version__}"},
    )
