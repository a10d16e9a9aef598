"""An independent account of one endpoint, kept from its events: every move must have an explanation."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from emulator.clock.clock import subject_of
from emulator.core.events import JobMoved, WorkerMoved
from emulator.errors import JobNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.core.config import EndpointConfig
    from emulator.core.endpoint import Endpoint
    from emulator.core.events import Event
    from emulator.core.job import Job

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
LOST = "lost"
HANDED_BACK = "handed back"


@dataclass(slots=True)
class Life:
    """A job as the ledger has it."""

    job: Job
    status: str
    queued_ms: int
    started_ms: int = 0
    ended_ms: int = 0
    worker_id: str | None = None
    losses: int = 0
    #: How often it has ended since it was submitted or retried.
    ends: int = 0
    #: The chunks that the gateway took and no reader has had.
    unread: deque[bytes] = field(default_factory=deque)
    progress: bytes | None = None

    @property
    def expires_ms(self) -> int:
        return self.job.submitted_ms + self.job.policy.ttl_ms

    @property
    def delivered(self) -> bool:
        """Whether a worker really has it: `{}` as input never arrives."""
        return self.status == "IN_PROGRESS" and not self.job.empty_input


@dataclass(slots=True)
class Hand:
    """A worker as the ledger has it."""

    state: str
    #: Jobs it was told to stop and has not let go of, and since when.
    told: dict[str, int] = field(default_factory=dict)
    pinged_ms: int | None = None
    missing: set[str] = field(default_factory=set)
    heard_of: set[str] = field(default_factory=set)
    retiring: bool = False
    idle_since_ms: int = 0


class Ledger:
    """Hears every event, refuses those that nothing explains, and audits the endpoint."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.hands: dict[str, Hand] = {}
        #: The process has died with all its workers, and comes back.
        self.came_back = False
        self._expected: set[tuple[str, str]] = set()
        self._refusals: list[Exception] = []
        self.forget_jobs()

    def forget_jobs(self) -> None:
        self.lives: dict[str, Life] = {}
        self.queue: list[str] = []
        self.ended: Counter[str] = Counter()
        self.retried = 0

    def expect(self, *moves: tuple[str, str]) -> None:
        """Each of these (id, what) has a reason that time alone would not give; the audit wants them all."""
        self._expected = set(moves)

    @contextmanager
    def expecting(self, *moves: tuple[str, str]) -> Iterator[None]:
        """What the body does makes each of these (id, what) happen, and nothing else but by time."""
        self.expect(*moves)
        yield
        assert not self._expected, f"did not happen: {self._expected}"

    def _was_expected(self, subject: str, what: str) -> bool:
        found = (subject, what) in self._expected
        self._expected.discard((subject, what))
        return found

    # Hearing events

    def hear(self, event: Event) -> None:
        try:
            if isinstance(event, JobMoved):
                self._job_moved(event)
            elif isinstance(event, WorkerMoved):
                self._worker_moved(event)
        except Exception as refusal:
            # Nobody who is told of something can break it off, so the audit has it.
            self._refusals.append(refusal)

    def _job_moved(self, event: JobMoved) -> None:
        job, before, after, now_ms = event.job, event.before, str(event.job.status), event.at_ms
        if before is None:
            assert job.id not in self.lives
            self.lives[job.id] = Life(job, after, now_ms)
            self.queue.append(job.id)
            return
        life = self.lives[job.id]
        assert before == life.status
        if after == "IN_PROGRESS":
            self._started(life, now_ms)
        elif after == "IN_QUEUE":
            self._queued_again(life, now_ms)
        else:
            self._ended(life, after, now_ms)
        life.status = after

    def _started(self, life: Life, now_ms: int) -> None:
        assert life.status == "IN_QUEUE"
        assert self.queue.pop(0) == life.job.id, "jobs are served in order"
        life.worker_id = life.job.worker_id
        assert life.worker_id is not None
        hand = self.hands[life.worker_id]
        assert hand.state == "idle", "only a worker that is up gets jobs"
        assert not hand.retiring
        # It was told to stop this job once, before the job was retried: this time it is not.
        hand.told.pop(life.job.id, None)
        hand.missing.discard(life.job.id)
        hand.heard_of.discard(life.job.id)
        assert life.job.delay_ms == now_ms - life.queued_ms
        life.started_ms = now_ms
        life.progress = None

    def _queued_again(self, life: Life, now_ms: int) -> None:
        job_id = life.job.id
        if life.status == "FAILED":
            assert self._was_expected(job_id, "IN_QUEUE"), "only /retry brings back a failed job"
            self.ended["FAILED"] -= 1
            self.retried += 1
            life.losses = life.ends = 0
            life.unread.clear()
            self.queue.append(job_id)
        elif self._was_expected(job_id, HANDED_BACK):
            assert life.status == "IN_PROGRESS"
            self._leaves_hand(life, now_ms)
            self.queue.insert(0, job_id)
            return
        else:
            assert life.status == "IN_PROGRESS"
            if life.job.retries > life.losses:
                assert life.losses == 0, "requeued once at most"
                assert self._is_lost(life, now_ms)
                self.retried += 1
            else:
                assert life.worker_id not in self.hands, "requeued without blame: its worker was replaced"
            life.losses = life.job.retries
            life.unread.clear()
            self._leaves_hand(life, now_ms)
            self.queue.append(job_id)
        life.queued_ms = now_ms

    def _ended(self, life: Life, status: str, now_ms: int) -> None:
        job = life.job
        assert status in ENDED
        if life.status == "IN_QUEUE":
            self.queue.remove(job.id)
        else:
            assert life.status == "IN_PROGRESS"
        if not self._was_expected(job.id, status):
            if status == "TIMED_OUT":
                assert now_ms == life.expires_ms
            elif job.error == "executionTimeout exceeded":
                assert now_ms == life.started_ms + job.policy.execution_timeout_ms
                assert life.delivered
            else:
                assert status == "FAILED"
                assert job.error == "job timed out after 1 retries"
                assert life.losses == 1
                assert self._is_lost(life, now_ms)
        hand = self.hands.get(life.worker_id or "")
        if life.delivered and hand is not None:
            stopped = status in ("CANCELLED", "TIMED_OUT") or job.error == "executionTimeout exceeded"
            if stopped and hand.state == "idle":
                hand.told[job.id] = now_ms
            self._leaves_hand(life, now_ms)
        life.ends += 1
        assert life.ends == 1, "a life ends once"
        life.ended_ms = now_ms
        self.ended[status] += 1

    def _is_lost(self, life: Life, now_ms: int) -> bool:
        """Whether there is a reason for the job's worker to be held for lost."""
        if self.came_back:
            return True
        if life.job.empty_input:
            return now_ms == life.started_ms + self.config.heartbeat_timeout_ms
        hand = self.hands.get(life.worker_id or "")
        return hand is None or hand.state == "unhealthy" or self._was_expected(life.job.id, LOST)

    def _leaves_hand(self, life: Life, now_ms: int) -> None:
        hand = self.hands.get(life.worker_id or "")
        if hand is not None and not life.job.empty_input:
            hand.idle_since_ms = now_ms

    def _worker_moved(self, event: WorkerMoved) -> None:
        worker_id, now_ms = event.worker_id, event.at_ms
        if event.before is None:
            assert worker_id not in self.hands
            assert event.after is not None
            self.hands[worker_id] = Hand(str(event.after))
            assert len(self.hands) <= self.config.workers_max
            return
        hand = self.hands[worker_id]
        if event.after is None:
            assert self._may_go(worker_id, now_ms), f"no reason to end the worker: {event.reason}"
            del self.hands[worker_id]
            return
        if event.after == "unhealthy":
            assert self._was_expected(worker_id, "unhealthy") or (
                hand.pinged_ms is not None and now_ms == hand.pinged_ms + self.config.heartbeat_timeout_ms
            )
        if event.after == "idle":
            hand.state, hand.idle_since_ms = "idle", now_ms
        else:
            self.hands[worker_id] = Hand(str(event.after))

    def _may_go(self, worker_id: str, now_ms: int) -> bool:
        hand = self.hands[worker_id]
        if self._was_expected(worker_id, "gone"):
            return True
        if any(now_ms == since_ms + self.config.stop_grace_ms for since_ms in hand.told.values()):
            return True
        if self.is_busy(worker_id) or hand.state != "idle":
            return False
        idle_ms = int(self.config.idle_timeout_s * 1000)
        return hand.retiring or (
            now_ms == hand.idle_since_ms + idle_ms and len(self.hands) > self.config.workers_min
        )

    # What the rules tell it and ask it

    def held_by(self, worker_id: str) -> list[str]:
        return [
            job_id for job_id, life in self.lives.items() if life.delivered and life.worker_id == worker_id
        ]

    def is_busy(self, worker_id: str) -> bool:
        return bool(self.hands[worker_id].told or self.held_by(worker_id))

    def lets_go(self, worker_id: str, job_id: str, now_ms: int) -> None:
        hand = self.hands.get(worker_id)
        if hand is not None and hand.told.pop(job_id, None) is not None:
            hand.idle_since_ms = now_ms

    # Comparing it with the endpoint

    def audit(self, endpoint: Endpoint) -> None:
        """Each job that is kept is in the queue, with a worker or over, as the events say it.

        :raises AssertionError: it is not, or an event had no explanation.
        """
        for refusal in self._refusals:
            raise refusal
        assert not self._expected
        now_ms = endpoint.clock.now_ms()
        for job_id, life in self.lives.items():
            self._audit_life(endpoint, job_id, life, now_ms)
        for worker_id, hand in self.hands.items():
            self._audit_hand(worker_id, hand, now_ms)
        holders = Counter(job_id for worker in endpoint.pool for job_id in worker.jobs)
        assert holders == Counter(job_id for job_id, life in self.lives.items() if life.delivered)
        assert [job.id for job in sorted(endpoint.queue, key=lambda job: job.place)] == self.queue
        assert endpoint.health() == self._health()
        self._audit_timers(endpoint)
        self._audit_scale(now_ms)

    def _audit_life(self, endpoint: Endpoint, job_id: str, life: Life, now_ms: int) -> None:
        if life.status in ENDED:
            job = life.job
            kept_ms = self.config.sync_retention_ms if job.sync else self.config.retention_ms
            kept = life.status != "TIMED_OUT" and now_ms < life.ended_ms + kept_ms
        else:
            kept = True
            assert now_ms < life.expires_ms, "outlived its ttl"
        try:
            job = endpoint.get(job_id)
        except JobNotFound:
            assert not kept
            return
        assert kept
        assert (job is life.job, job.status) == (True, life.status)
        if life.status == "IN_PROGRESS":
            limit_ms = (
                self.config.heartbeat_timeout_ms if job.empty_input else job.policy.execution_timeout_ms
            )
            assert now_ms < life.started_ms + limit_ms
            assert job.output_json == life.progress
            if life.delivered:
                assert self.hands[life.worker_id or ""].state == "idle", "held by a worker that is up"
        assert list(job.chunks or ()) == list(life.unread)

    def _audit_hand(self, worker_id: str, hand: Hand, now_ms: int) -> None:
        if hand.pinged_ms is not None:
            assert now_ms < hand.pinged_ms + self.config.heartbeat_timeout_ms
        for since_ms in hand.told.values():
            assert now_ms < since_ms + self.config.stop_grace_ms
        if hand.state == "idle" and not self.is_busy(worker_id):
            assert not hand.retiring
            if self.config.workers_min == 0:
                assert now_ms < hand.idle_since_ms + int(self.config.idle_timeout_s * 1000)

    def _audit_scale(self, now_ms: int) -> None:
        """Never fewer workers than the scaler's rule asks for (wire.md 6)."""
        normal = [life for life in self.lives.values() if not life.job.policy.low_priority]
        queued = [life for life in normal if life.status == "IN_QUEUE"]
        if self.config.scaler_type == "REQUEST_COUNT":
            jobs = len(queued) + sum(life.delivered for life in normal)
            wanted = -(-jobs // self.config.scaler_value)
        else:
            patience_ms = self.config.scaler_value * 1000
            overdue = sum(now_ms >= life.queued_ms + patience_ms for life in queued)
            starting = sum(hand.state == "initializing" for hand in self.hands.values())
            wanted = max(bool(queued), len(self.hands) + overdue - starting)
        assert len(self.hands) >= max(self.config.workers_min, min(wanted, self.config.workers_max))

    def _audit_timers(self, endpoint: Endpoint) -> None:
        timers = Counter(
            (timer.kind, subject_of(timer.argument))
            for timer in endpoint.clock.pending()
            if timer.kind in ("ttl", "executionTimeout", "lost job", "retention")
        )
        due: Counter[tuple[str, str]] = Counter()
        for job_id, life in self.lives.items():
            if life.status in ("IN_QUEUE", "IN_PROGRESS"):
                due["ttl", job_id] += 1
            elif life.status != "TIMED_OUT" and endpoint.list_jobs(offset=0, limit=1)[1]:
                kept_ms = self.config.sync_retention_ms if life.job.sync else self.config.retention_ms
                if endpoint.clock.now_ms() < life.ended_ms + kept_ms:
                    due["retention", job_id] += 1
            if life.status == "IN_PROGRESS":
                due["lost job" if life.job.empty_input else "executionTimeout", job_id] += 1
        assert timers == due

    def _health(self) -> dict[str, dict[str, int]]:
        states = Counter(
            "running" if hand.state == "idle" and self.is_busy(worker_id) else hand.state
            for worker_id, hand in self.hands.items()
        )
        statuses = Counter(life.status for life in self.lives.values())
        names = ("idle", "initializing", "running", "throttled", "unhealthy")
        return {
            "jobs": {
                "completed": self.ended["COMPLETED"],
                "failed": self.ended["FAILED"] + self.ended["TIMED_OUT"],
                "inProgress": statuses["IN_PROGRESS"],
                "inQueue": statuses["IN_QUEUE"],
                "retried": self.retried,
            },
            "workers": {**{name: states[name] for name in names}, "ready": states["idle"]},
        }
