"""One request's job: what it is, which state it is in, and which states may follow."""

from __future__ import annotations

import json
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from emulator.clock.wakeup import Wakeup
from emulator.errors import EmulatorError

if TYPE_CHECKING:
    from emulator.clock.timers import Timer
    from emulator.core.policy import ExecutionPolicy
    from emulator.core.request import JobRequest


class JobStatus(StrEnum):
    """The states of a job as they appear on the wire (wire.md 3)."""

    IN_QUEUE = "IN_QUEUE"
    """Waiting for a worker: new, requeued after its worker was lost, or retried."""
    IN_PROGRESS = "IN_PROGRESS"
    """Held by a worker."""
    COMPLETED = "COMPLETED"
    """The handler returned."""
    FAILED = "FAILED"
    """The handler reported or raised an error, ran too long, or its worker was lost twice."""
    CANCELLED = "CANCELLED"
    """Cancelled by a client, or purged from the queue."""
    TIMED_OUT = "TIMED_OUT"
    """Its ttl ran out."""


TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT})
RETRYABLE = frozenset({JobStatus.FAILED, JobStatus.TIMED_OUT})

#: The legal moves; everything else is a bug and raises.
TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.IN_QUEUE: frozenset({JobStatus.IN_PROGRESS, JobStatus.CANCELLED, JobStatus.TIMED_OUT}),
    JobStatus.IN_PROGRESS: TERMINAL | {JobStatus.IN_QUEUE},
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset({JobStatus.IN_QUEUE}),
    JobStatus.CANCELLED: frozenset(),
    JobStatus.TIMED_OUT: frozenset({JobStatus.IN_QUEUE}),
}


#: json.loads would first guess the encoding, which is known.
_decoder = json.JSONDecoder()


class IllegalTransition(EmulatorError):
    """A job cannot move between these two states."""


class Job:
    """One job. Only `Endpoint` changes it; everyone else reads.

    A million of these may be queued at once, hence the slots and the shared policy object.
    """

    __slots__ = (
        "_chunked", "_ended", "again_of", "body", "chunks", "delay_ms", "empty_input", "ended_ms", "error",
        "execution_ms", "id", "next_queued", "number", "output_json", "place", "policy", "previous_queued",
        "queued_ms", "retries", "stage_timer", "started_ms", "status", "submitted_ms", "sync",
        "ttl_timer", "webhook", "worker_id",
    )  # fmt: skip

    def __init__(self, job_id: str, request: JobRequest, now_ms: int) -> None:
        self.id = job_id
        #: The request as the client sent it: a JSON object, UTF-8.
        self.body: bytes = request.body
        self.policy: ExecutionPolicy = request.policy
        self.webhook: str | None = request.webhook
        self.sync: bool = request.sync
        self.empty_input: bool = request.empty_input
        #: The id of the job that it repeats.
        self.again_of: str | None = request.again_of
        self.status = JobStatus.IN_QUEUE
        self.submitted_ms = now_ms
        #: When it last entered the queue.
        self.queued_ms = now_ms
        self.started_ms: int | None = None
        self.ended_ms: int | None = None
        #: From (re)queueing to pickup, once picked up.
        self.delay_ms: int | None = None
        #: For how long the worker held it, once it no longer does.
        self.execution_ms: int | None = None
        self.worker_id: str | None = None
        #: How often it went back to the queue because its worker was lost.
        self.retries = 0
        #: The output, or while IN_PROGRESS the latest progress, as JSON text.
        self.output_json: bytes | None = None
        self.error: str | None = None
        #: Stream chunks not yet read, each as JSON text.
        self.chunks: deque[bytes] | None = None
        self.ttl_timer: Timer | None = None
        #: executionTimeout while it runs, retention once it has ended.
        self.stage_timer: Timer | None = None
        self._ended: Wakeup | None = None
        self._chunked: Wakeup | None = None
        #: Links and place of the queue it is in; place 0 is in none.
        self.previous_queued: Job | None = None
        self.next_queued: Job | None = None
        self.place = 0
        #: By which whoever keeps the endpoint's state knows it; 0 while nobody does.
        self.number = 0

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.status}>"

    @property
    def terminal(self) -> bool:
        """Whether it has ended."""
        return self.status in TERMINAL

    @property
    def expires_ms(self) -> int:
        """When its ttl runs out, which counts from its first submission (wire.md 3)."""
        return self.submitted_ms + self.policy.ttl_ms

    @property
    def output(self) -> Any:
        """The output (or latest progress) as a Python value; None when there is none."""
        return None if self.output_json is None else json.loads(self.output_json)

    @property
    def input(self) -> Any:
        """The input as a Python value."""
        return json.loads(self.body).get("input")

    @property
    def ended(self) -> Wakeup:
        """Wakes when the job becomes terminal."""
        if self._ended is None:
            self._ended = Wakeup()
        return self._ended

    @property
    def chunked(self) -> Wakeup:
        """Wakes at each stream chunk and when the job becomes terminal."""
        if self._chunked is None:
            self._chunked = Wakeup()
        return self._chunked

    def payload(self) -> dict[str, Any]:
        """What the handler receives: the request as submitted, and the job's id (wire.md 7)."""
        fields: dict[str, Any] = _decoder.decode(self.body.decode())
        fields["id"] = self.id
        if self.empty_input:
            # wire.md 2: production leaves an empty input out.
            fields.pop("input", None)
        return fields

    def move_to(self, status: JobStatus) -> None:
        """Change the state.

        :raises IllegalTransition: the state cannot follow the present one.
        """
        if status not in TRANSITIONS[self.status]:
            raise IllegalTransition(f"job {self.id} cannot go from {self.status} to {status}")
        self.status = status

    def wake_chunk_readers(self) -> None:
        """A chunk has come."""
        if self._chunked is not None:
            self._chunked.notify()

    def wake_everyone(self) -> None:
        """The job has ended."""
        if self._ended is not None:
            self._ended.notify()
            self._ended = None
        self.wake_chunk_readers()
