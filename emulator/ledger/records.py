"""What is written down of each thing: plain values, which a file or a line of JSON can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from emulator.core.comeback import Kept
from emulator.core.job import Job, JobStatus
from emulator.core.json_text import encode
from emulator.core.policy import ExecutionPolicy
from emulator.core.request import JobRequest

if TYPE_CHECKING:
    from emulator.core.endpoint import Endpoint
    from emulator.webhooks.deliveries import Delivery


#: The kind of the part that has an endpoint's counters.
COUNTS = "counts"


class RequestRecord(NamedTuple):
    """What a job was submitted with, which never changes. Times in ms."""

    #: In order of submission, over all endpoints.
    number: int
    endpoint: str
    job_id: str
    body: bytes
    webhook: str | None
    sync: bool
    empty_input: bool
    again_of: str | None
    submitted_ms: int
    execution_timeout_ms: int
    ttl_ms: int
    low_priority: bool


class JobRecord(NamedTuple):
    """What has become of a job so far. Times in ms since the epoch, durations in ms."""

    number: int
    status: str
    queued_ms: int
    started_ms: int | None
    ended_ms: int | None
    delay_ms: int | None
    execution_ms: int | None
    worker_id: str | None
    #: Whether that worker came by itself.
    held_elsewhere: bool
    retries: int
    #: JSON text.
    output: bytes | None
    #: UTF-8, in which half of a surrogate pair may stand, as in JSON.
    error: bytes | None
    #: In the queue; 0 outside of it.
    place: int


class ChunkRecord(NamedTuple):
    """A chunk of a job's stream that nobody has read."""

    number: int
    #: The job's.
    job: int
    output: bytes


class DeliveryRecord(NamedTuple):
    """A webhook that is not delivered yet."""

    number: int
    endpoint: str
    job_id: str
    url: str
    body: bytes
    #: Calls so far, as JSON text.
    attempts: bytes
    #: Which attempt is the next, and when it is due, ms since the epoch.
    next_attempt: int
    due_ms: int


class PartRecord(NamedTuple):
    """Anything else there is one of: a clock, an endpoint, the faults; as JSON text."""

    kind: str
    name: str
    value: bytes


def request_of(endpoint: Endpoint, job: Job) -> RequestRecord:
    """A job's request, to be written down."""
    policy = job.policy
    return RequestRecord(
        job.number,
        endpoint.id,
        job.id,
        job.body,
        job.webhook,
        job.sync,
        job.empty_input,
        job.again_of,
        job.submitted_ms,
        policy.execution_timeout_ms,
        policy.ttl_ms,
        policy.low_priority,
    )


def state_of(endpoint: Endpoint, job: Job) -> JobRecord:
    """A job as it stands, to be written down."""
    worker = None
    if job.status is JobStatus.IN_PROGRESS:
        worker = endpoint.pool.get(job.worker_id)
    return JobRecord(
        job.number,
        job.status.value,
        job.queued_ms,
        job.started_ms,
        job.ended_ms,
        job.delay_ms,
        job.execution_ms,
        job.worker_id,
        worker is not None and worker.external and job.id in worker.jobs,
        job.retries,
        job.output_json,
        None if job.error is None else job.error.encode("utf-8", "surrogatepass"),
        job.place,
    )


class JobsFromRecords:
    """Makes jobs again; those with the same policy share it, as a million may be queued."""

    def __init__(self) -> None:
        self._policies: dict[tuple[int, int, bool], ExecutionPolicy] = {}

    def __call__(self, request: RequestRecord, state: JobRecord) -> Kept:
        """The job as it was."""
        terms = (request.execution_timeout_ms, request.ttl_ms, bool(request.low_priority))
        policy = self._policies.get(terms)
        if policy is None:
            policy = self._policies[terms] = ExecutionPolicy(
                execution_timeout_ms=terms[0], ttl_ms=terms[1], low_priority=terms[2]
            )
        asked = JobRequest(
            body=request.body,
            policy=policy,
            webhook=request.webhook,
            sync=bool(request.sync),
            empty_input=bool(request.empty_input),
            again_of=request.again_of,
        )
        job = Job(request.job_id, asked, request.submitted_ms)
        job.number = request.number
        job.status = JobStatus(state.status)
        job.queued_ms = state.queued_ms
        job.started_ms, job.ended_ms = state.started_ms, state.ended_ms
        job.delay_ms, job.execution_ms = state.delay_ms, state.execution_ms
        job.worker_id = state.worker_id
        job.retries = state.retries
        job.output_json = state.output
        job.error = None if state.error is None else state.error.decode("utf-8", "surrogatepass")
        return Kept(job, state.place, bool(state.held_elsewhere))


def counts_of(endpoint: Endpoint) -> PartRecord:
    """An endpoint's counters, as /health shows them."""
    ended = {status.value: count for status, count in endpoint.life.ended.items()}
    return PartRecord(COUNTS, endpoint.id, encode({"ended": ended, "retried": endpoint.life.retried}))


def delivery_of(delivery: Delivery) -> DeliveryRecord:
    """A webhook's delivery, to be written down."""
    attempts = [
        [each.at_ms, each.status, each.failure, each.began_ms, each.answer] for each in delivery.attempts
    ]
    return DeliveryRecord(
        delivery.number,
        delivery.endpoint.id,
        delivery.job_id,
        delivery.url,
        delivery.body,
        encode(attempts),
        delivery.next_attempt,
        delivery.due_ms,
    )
