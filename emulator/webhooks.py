"""HTTP out: telling a job's webhook that it has ended (wire.md 5)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from emulator.core.json_text import NotJSON
from emulator.core.status_body import webhook_body
from emulator.version import __version__

if TYPE_CHECKING:
    import httpx

    from emulator.core.clock import Clock
    from emulator.core.events import JobMoved

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


@dataclass(slots=True, frozen=True, eq=False)
class Delivery:
    """One end of one job, on its way to its webhook."""

    job_id: str
    url: str
    #: The job as it was when it ended: it may be retried and change before this is delivered.
    body: bytes

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


class Webhooks:
    """Delivers concurrently: up to three attempts each, ten seconds apart on the emulator's clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[Delivery, asyncio.Task[None]] = {}
        #: The deliveries whose receiver has been called and has not answered yet.
        self._calling: set[Delivery] = set()
        self._receivers: dict[str, asyncio.Semaphore] = {}
        self._client: httpx.AsyncClient | None = None
        self._client_made: asyncio.Lock | None = None
        self._closing = False

    def on_job_moved(self, event: JobMoved) -> None:
        """Begin a delivery when a job with a webhook has ended."""
        job = event.job
        if job.webhook is None or not job.terminal:
            return
        try:
            body = webhook_body(job)
        except (RecursionError, NotJSON):
            # The job has ended all the same: whoever tells of it must not keep it from ending.
            log.warning("webhook of job %s is not sent: its input is nested too deeply", job.id)
            return
        delivery = Delivery(job.id, job.webhook, body)
        task = asyncio.get_running_loop().create_task(self._deliver(delivery))
        self._tasks[delivery] = task
        task.add_done_callback(lambda _: self._tasks.pop(delivery, None))

    async def reset(self) -> None:
        """Drop everything that is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self, patience_s: float) -> list[Delivery]:
        """Give the calls in flight `patience_s` real seconds; returns what could not be delivered."""
        self._closing = True
        under_way = dict(self._tasks)
        for delivery, task in under_way.items():
            if delivery not in self._calling:
                task.cancel()
        if under_way:
            await asyncio.wait(under_way.values(), timeout=patience_s)
        await self.reset()
        if self._client is not None:
            await self._client.aclose()
        undelivered = [delivery for delivery, task in under_way.items() if task.cancelled()]
        for delivery in undelivered:
            log.warning("webhook of job %s was not delivered: %s", delivery.job_id, delivery.shown_url)
        return undelivered

    async def _deliver(self, delivery: Delivery) -> None:
        client = await self._ready_client()
        receiver = self._receivers.setdefault(delivery.receiver, asyncio.Semaphore(_CALLS_PER_RECEIVER))
        for attempt in range(1, ATTEMPTS + 1):
            with self._clock.activity(_PATIENCE_S):
                async with receiver:
                    failure = await self._call(client, delivery, attempt)
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
                await self._clock.sleep(RETRY_DELAY_MS, "webhook retry")

    async def _call(self, client: httpx.AsyncClient, delivery: Delivery, attempt: int) -> str | None:
        """Call the receiver once; returns what was wrong with its answer, None when it acknowledged."""
        call = asyncio.get_running_loop().create_task(_post(client, delivery))
        timer = self._clock.call_later(ATTEMPT_TIMEOUT_MS, "webhook time-out", asyncio.Task.cancel, call)
        self._calling.add(delivery)
        try:
            await asyncio.wait({call})
        finally:
            self._calling.discard(delivery)
            self._clock.cancel(timer)
            call.cancel()
        if call.cancelled():
            return f"no answer within {ATTEMPT_TIMEOUT_MS} ms"
        if (error := call.exception()) is not None:
            return f"{type(error).__name__}: {error}"
        status = call.result()
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return f"status {status}"
        if status == HTTPStatus.OK:
            log.info("webhook of job %s, attempt %d: %s → 200", delivery.job_id, attempt, delivery.shown_url)
        else:
            log.warning(
                "webhook of job %s, attempt %d: %s → %d counts as received, but the documents ask for 200",
                delivery.job_id, attempt, delivery.shown_url, status,
            )  # fmt: skip
        return None

    async def _ready_client(self) -> httpx.AsyncClient:
        if self._client_made is None:
            self._client_made = asyncio.Lock()
        # Importing httpx and loading its certificates takes too long for the event loop.
        with self._clock.activity(_IMPORT_PATIENCE_S):
            async with self._client_made:
                if self._client is None:
                    self._client = await asyncio.to_thread(_new_client)
        return self._client


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
