"""Any order of submissions, takes, results, cancels, crashes and passing time leaves no job behind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from emulator.clock.clock import VirtualClock
from emulator.core.bounds import TIME_MAX_MS
from emulator.core.config import EndpointConfig
from emulator.core.endpoint import Endpoint
from emulator.core.gateway import Gateway
from emulator.core.result import JobResult
from emulator.errors import NotRetryable, WorkerGone
from emulator.scenario.fault_rule import FaultRule
from emulator.scenario.faults import Faults
from emulator.scenario.scenario import Scenario
from tests.unit.ledger import ENDED, HANDED_BACK, LOST, Ledger
from tests.unit.manual_workers import ManualLauncher

PICK = st.integers(0, 1000)
RARELY = st.integers(0, 7).map(lambda number: number == 7)
POLICIES = st.sampled_from(
    [
        {},
        {},
        {"lowPriority": True},
        {"ttl": 10_000},
        {"executionTimeout": 5_001},
        {"ttl": 60_000, "executionTimeout": 60_000},
    ]
)
SPANS_MS = st.sampled_from(
    [0, 1, 999, 1_000, 3_000, 4_000, 5_000, 5_001, 10_000, 40_000, 60_000, 600_000, 1_800_000, 86_400_000]
)


#: What no one who means well would set, and what is allowed all the same.
ODD_NUMBERS = {
    "scaler_value": TIME_MAX_MS // 1000,
    "idle_timeout_s": TIME_MAX_MS // 1000,
    "retention_ms": TIME_MAX_MS,
    "sync_retention_ms": 0,
    "stop_grace_ms": 0,
}


class Explosion(Exception):
    """Its own way of saying what it is fails too."""

    def __str__(self):
        return 5


class Explosive:
    """An expectation with which nothing can be compared."""

    def __eq__(self, other):
        raise Explosion

    __hash__ = None

    def __repr__(self):
        raise Explosion


@dataclass(slots=True)
class Take:
    worker_id: str
    task: asyncio.Task


@dataclass(slots=True)
class Wait:
    job_id: str
    until_ms: int
    task: asyncio.Task


class LifeOfJobs(RuleBasedStateMachine):
    """Clients, workers and time, each doing what they please."""

    @initialize(
        workers_min=st.integers(0, 1),
        workers_max=st.integers(1, 3),
        scaler=st.sampled_from(["QUEUE_DELAY", "REQUEST_COUNT"]),
        numbers=st.sampled_from([{}, {}, ODD_NUMBERS]),
        listener_fails=st.booleans(),
        matchers_fail=st.booleans(),
    )
    def open(self, workers_min, workers_max, scaler, numbers, listener_fails, matchers_fail):
        self.runner = asyncio.Runner()
        self.config = EndpointConfig(
            **{"workers_min": workers_min, "workers_max": workers_max, "scaler_value": 1, **numbers},
            scaler_type=scaler,
        )
        self.ledger = Ledger(self.config)
        self.clock = VirtualClock(start_ms=0)

        def hear(_, event):
            self.ledger.hear(event)
            if listener_fails:
                raise Explosion

        self.endpoint = self.make_endpoint(hear)
        if matchers_fail:
            scenario = Scenario(self.endpoint, Faults(), hear)
            for effect, value in (("stall_ms", 1_000), ("fail", "ordered"), ("throttled_ms", 1_000)):
                scenario.effects.faults.add(FaultRule(id="", effect=effect, value=value, input=Explosive()))
        self.gateway = Gateway(self.endpoint)
        self.launcher = ManualLauncher()
        self.takes: list[Take] = []
        #: Workers that have asked for a job while they had another.
        self.take_beside: set[str] = set()
        self.waits: list[Wait] = []
        self.stop_polls: list[Take] = []
        #: Every (worker, job) that was ever delivered: where results may come from, however late.
        self.deliveries: list[tuple[str, str]] = []
        self.run(self.endpoint.open, self.launcher)

    def make_endpoint(self, hear):
        return Endpoint("ep", self.config, self.clock, hear)

    def teardown(self):
        if hasattr(self, "runner"):
            self.runner.run(self._cancel_tasks())
            self.runner.close()

    async def _cancel_tasks(self):
        tasks = [waiting.task for waiting in (*self.takes, *self.waits, *self.stop_polls)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def run(self, function, *arguments, **named):
        """Call a function on the loop and let everything it causes settle."""

        async def call():
            result = function(*arguments, **named)
            if asyncio.iscoroutine(result):
                result = await result
            await self.clock.settle()
            return result

        result = self.runner.run(call())
        self.collect()
        return result

    def collect(self):
        """See what has come to those who waited."""
        for take in [take for take in self.takes if take.task.done()]:
            self.takes.remove(take)
            if not take.task.cancelled() and take.task.exception() is None:
                self.deliveries += [(take.worker_id, job.id) for job in take.task.result()]
            elif not take.task.cancelled():
                assert isinstance(take.task.exception(), WorkerGone)
        for poll in [poll for poll in self.stop_polls if poll.task.done()]:
            self.stop_polls.remove(poll)
            if poll.task.exception() is not None:
                assert isinstance(poll.task.exception(), WorkerGone)
                assert poll.worker_id not in self.ledger.hands
        for wait in [wait for wait in self.waits if wait.task.done()]:
            self.waits.remove(wait)

    def a_job(self, pick):
        return list(self.ledger.lives)[pick % len(self.ledger.lives)]

    def a_worker(self, pick):
        """Mostly one that has something to do."""
        busy = [worker_id for worker_id in self.launcher.alive if self.ledger.is_busy(worker_id)]
        among = busy if busy and pick % 4 else self.launcher.alive
        return among[pick % len(among)]

    def a_delivery(self, pick):
        """Mostly one that still holds; now and then a bygone one."""
        held = [
            (worker_id, job_id)
            for worker_id, job_id in self.deliveries
            if job_id in self.ledger.held_by(worker_id)
        ]
        among = held if held and pick % 4 else self.deliveries
        return among[pick % len(among)]

    def some_job(self):
        return bool(self.ledger.lives)

    def some_worker(self):
        return bool(self.launcher.alive)

    def some_delivery(self):
        return bool(self.deliveries)

    # Clients

    @rule(policies=st.lists(POLICIES, min_size=1, max_size=4), sync=st.booleans(), empty=RARELY)
    def submit(self, policies, sync, empty):
        for policy in policies:
            body = {"input": {} if empty else {"n": 1}, "policy": policy}
            job = self.run(self.endpoint.submit, body, sync=sync)
            assert job.id.startswith("sync-") == sync

    @precondition(some_job)
    @rule(pick=PICK, limit_ms=st.sampled_from([1_000, 90_000]))
    def wait_for_the_end(self, pick, limit_ms):
        job = self.ledger.lives[self.a_job(pick)].job
        self.start(
            self.waits, Wait, job.id, self.clock.now_ms() + limit_ms, self.endpoint.wait(job, limit_ms)
        )

    @precondition(some_job)
    @rule(pick=PICK)
    def read_stream(self, pick):
        life = self.ledger.lives[self.a_job(pick)]
        if life.unread or life.status in ENDED:
            status, chunks = self.run(self.endpoint.read_stream, life.job, 9_000)
            assert chunks == [life.unread.popleft() for _ in chunks]
            assert not life.unread
            assert status == life.status
        else:
            until_ms = self.clock.now_ms() + 9_000
            self.start(self.waits, Wait, life.job.id, until_ms, self.read_later(life))

    async def read_later(self, life):
        _, chunks = await self.endpoint.read_stream(life.job, 9_000)
        assert chunks == [life.unread.popleft() for _ in chunks]

    @precondition(some_job)
    @rule(pick=PICK)
    def cancel(self, pick):
        job_id = self.a_job(pick)
        life = self.ledger.lives[job_id]
        if life.status in ENDED:
            if life.job in self.endpoint.list_jobs(offset=0, limit=1000)[0]:
                assert self.run(self.endpoint.cancel, job_id).status == life.status
            return
        with self.ledger.expecting((job_id, "CANCELLED")):
            self.run(self.endpoint.cancel, job_id)

    @precondition(some_job)
    @rule(pick=PICK)
    def retry(self, pick):
        job_id = self.a_job(pick)
        life = self.ledger.lives[job_id]
        if life.job not in self.endpoint.list_jobs(offset=0, limit=1000)[0]:
            return
        if life.status == "FAILED" and self.clock.now_ms() < life.expires_ms:
            with self.ledger.expecting((job_id, "IN_QUEUE")):
                self.run(self.endpoint.retry, job_id)
        else:
            with pytest.raises(NotRetryable):
                self.run(self.endpoint.retry, job_id)

    @rule(sure=RARELY)
    def purge(self, sure):
        if not sure:
            return
        queued = list(self.ledger.queue)
        with self.ledger.expecting(*[(job_id, "CANCELLED") for job_id in queued]):
            assert self.run(self.endpoint.purge_queue) == len(queued)

    # Workers

    @precondition(some_worker)
    @rule()
    def everyone_asks_for_a_job(self):
        waiting = {take.worker_id for take in self.takes}
        for worker_id in [worker_id for worker_id in self.launcher.alive if worker_id not in waiting]:
            if not self.ledger.held_by(worker_id):
                self.start(self.takes, Take, worker_id, self.gateway.take(worker_id))

    @precondition(some_worker)
    @rule(
        pick=PICK,
        limit=st.integers(1, 3),
        hold_ms=st.sampled_from([None, 5_000]),
        in_progress=st.sampled_from([None, False, True]),
    )
    def take(self, pick, limit, hold_ms, in_progress):
        worker_id = self.a_worker(pick)
        expected = []
        if in_progress and self.may_take(worker_id):
            self.take_beside.add(worker_id)
        if in_progress is False and self.may_take(worker_id) and worker_id not in self.take_beside:
            expected = self.losses_of(worker_id, self.ledger.held_by(worker_id))
            for job_id in list(self.ledger.hands[worker_id].told):
                self.ledger.lets_go(worker_id, job_id, self.clock.now_ms())
        coroutine = self.gateway.take(worker_id, limit=limit, hold_ms=hold_ms, in_progress=in_progress)
        with self.ledger.expecting(*expected):
            self.start(self.takes, Take, worker_id, coroutine)

    def may_take(self, worker_id):
        hand = self.ledger.hands[worker_id]
        return not hand.retiring and hand.state != "unhealthy"

    def losses_of(self, worker_id, job_ids):
        """The moves to expect when this worker turns out not to have these jobs."""
        return [(job_id, LOST) for job_id in job_ids]

    @precondition(lambda self: self.takes)
    @rule(pick=PICK)
    def abandon_take(self, pick):
        take = self.takes[pick % len(self.takes)]
        self.run(take.task.cancel)
        assert take not in self.takes

    @precondition(lambda self: self.takes and not self.ledger.queue)
    @rule()
    def abandon_take_as_a_job_comes(self):
        """The connection of a long poll breaks in the moment in which a job is given to it."""

        def submit_and_disconnect():
            job = self.endpoint.submit({"input": {"n": 1}})
            for take in self.takes:
                if take.worker_id == job.worker_id:
                    take.task.cancel()
            self.ledger.expect((job.id, HANDED_BACK))

        self.run(submit_and_disconnect)

    @precondition(lambda self: self.takes and not self.ledger.queue)
    @rule(more=st.integers(0, 2))
    def crash_as_a_job_comes(self, more):
        """A worker dies after a job was given to it and before it knows."""
        worker_id = self.takes[-1].worker_id

        def submit_and_crash():
            for _ in range(1 + more):
                self.endpoint.submit({"input": {"n": 1}})
            self.gateway.crashed(worker_id, "it crashed")

        with self.ledger.expecting((worker_id, "unhealthy")):
            self.run(submit_and_crash)

    @precondition(lambda self: self.takes and not self.ledger.queue)
    @rule(more=st.integers(0, 2))
    def cancel_as_a_job_comes(self, more):
        """A job is cancelled after it was given to a worker and before the worker knows."""

        def submit_and_cancel():
            jobs = [self.endpoint.submit({"input": {"n": 1}}) for _ in range(1 + more)]
            cancelled.append(jobs[0].id)
            self.ledger.expect((jobs[0].id, "CANCELLED"))
            self.endpoint.cancel(jobs[0].id)
            for worker_id in self.ledger.hands:
                self.ledger.lets_go(worker_id, jobs[0].id, self.clock.now_ms())

        cancelled = []
        self.run(submit_and_cancel)
        assert cancelled[0] not in [job_id for _, job_id in self.deliveries]

    @precondition(some_delivery)
    @rule(pick=PICK, failed=RARELY, stop_worker=RARELY)
    def finish(self, pick, failed, stop_worker):
        worker_id, job_id = self.a_delivery(pick)
        accepted = job_id in self.ledger.held_by(worker_id)
        result = JobResult(
            output_json=None if failed else b"1", error="bad" if failed else None, stop_worker=stop_worker
        )
        self.ledger.lets_go(worker_id, job_id, self.clock.now_ms())
        if accepted:
            self.ledger.hands[worker_id].retiring |= stop_worker
        with self.ledger.expecting(*[(job_id, "FAILED" if failed else "COMPLETED")][: int(accepted)]):
            assert self.run(self.gateway.finish, worker_id, job_id, result) == accepted
        if accepted:
            job = self.ledger.lives[job_id].job
            assert (job.output_json, job.error) == (result.output_json, result.error)

    @precondition(some_worker)
    @rule(pick=PICK)
    def take_with_the_answer_to_a_result(self, pick):
        worker_id = self.a_worker(pick)
        is_free = self.ledger.hands[worker_id].state == "idle" and not self.ledger.is_busy(worker_id)
        waiting = [job_id for job_id in self.ledger.queue if not self.ledger.lives[job_id].job.empty_input]
        job = self.run(self.gateway.take_beside_result, worker_id)
        expected = waiting[0] if waiting and is_free and self.may_take(worker_id) else None
        assert (job.id if job else None) == expected
        if job:
            self.deliveries.append((worker_id, job.id))

    @precondition(some_delivery)
    @rule(pick=PICK)
    def push_chunk(self, pick):
        worker_id, job_id = self.a_delivery(pick)
        accepted = job_id in self.ledger.held_by(worker_id)
        if accepted:
            self.ledger.lives[job_id].unread.append(b"0")
        assert self.run(self.gateway.push_chunk, worker_id, job_id, b"0") == accepted

    @precondition(some_delivery)
    @rule(pick=PICK)
    def report_progress(self, pick):
        worker_id, job_id = self.a_delivery(pick)
        accepted = job_id in self.ledger.held_by(worker_id)
        if accepted:
            self.ledger.lives[job_id].progress = b"0.5"
        assert self.run(self.gateway.report_progress, worker_id, job_id, b"0.5") == accepted

    @precondition(some_worker)
    @rule(pick=PICK, names_all=st.booleans())
    def heartbeat(self, pick, names_all):
        worker_id = self.a_worker(pick)
        hand = self.ledger.hands[worker_id]
        held = set(self.ledger.held_by(worker_id))
        lost = set() if names_all else held & hand.missing
        if hand.state != "unhealthy":
            hand.pinged_ms = self.clock.now_ms()
        hand.missing = set() if names_all else held - lost
        if not names_all:
            for job_id in hand.told.keys() & hand.heard_of:
                self.ledger.lets_go(worker_id, job_id, self.clock.now_ms())
        hand.heard_of = held | set(hand.told)
        with self.ledger.expecting(*self.losses_of(worker_id, lost)):
            self.run(self.gateway.heartbeat, worker_id, {*held, *hand.told} if names_all else ())

    @precondition(some_worker)
    @rule(pick=PICK)
    def poll_stop_signals(self, pick):
        worker_id = self.a_worker(pick)
        self.start(
            self.stop_polls, Take, worker_id, self.gateway.next_stop_signals(worker_id, hold_ms=20_000)
        )

    @precondition(some_delivery)
    @rule(pick=PICK)
    def let_go(self, pick):
        worker_id, job_id = self.a_delivery(pick)
        self.ledger.lets_go(worker_id, job_id, self.clock.now_ms())
        self.run(self.gateway.let_go, worker_id, job_id)

    @precondition(some_worker)
    @rule(pick=PICK, crashes=st.booleans(), sure=st.booleans())
    def trouble(self, pick, crashes, sure):
        worker_id = self.a_worker(pick)
        if not sure:
            return
        if crashes:
            down = self.ledger.hands[worker_id].state == "unhealthy"
            with self.ledger.expecting(*[(worker_id, "unhealthy")][: int(not down)]):
                self.run(self.gateway.crashed, worker_id, "it crashed")
        else:
            with self.ledger.expecting((worker_id, "gone")):
                self.run(self.gateway.cannot_stop, worker_id, "it is stuck")
            assert worker_id in self.launcher.killed

    # Time, and the operator

    @rule(by_ms=SPANS_MS)
    def advance_far(self, by_ms):
        self.advance(by_ms)

    @rule(by_ms=st.sampled_from([1, 500, 1_000, 2_000, 3_000, 6_000]))
    def advance(self, by_ms):
        before_ms = self.clock.now_ms()
        fired = self.run(self.clock.advance, by_ms)
        assert self.clock.now_ms() == before_ms + by_ms
        assert [timer.at_ms for timer in fired] == sorted(timer.at_ms for timer in fired)

    @rule(sure=RARELY)
    def reset(self, sure):
        if not sure:
            return
        running = [(id, "CANCELLED") for id, life in self.ledger.lives.items() if life.status not in ENDED]
        gone = [(worker_id, "gone") for worker_id in self.ledger.hands]
        kept = self.endpoint.list_jobs(offset=0, limit=1)[1]

        def reset():
            counts = self.endpoint.reset(self.launcher)
            assert counts == {"jobs": kept, "workers": len(gone)}

        with self.ledger.expecting(*running, *gone):
            self.run(reset)
        self.ledger.forget_jobs()
        self.deliveries.clear()

    def start(self, waiting, kind, *arguments):
        """Have a coroutine (the last argument) wait on the loop."""

        def begin():
            waiting.append(kind(*arguments[:-1], asyncio.get_running_loop().create_task(arguments[-1])))

        self.run(begin)

    # What always holds

    @invariant()
    def the_books_agree(self):
        if hasattr(self, "endpoint"):
            self.ledger.audit(self.endpoint)

    @invariant()
    def nobody_waits_for_what_has_come(self):
        if not hasattr(self, "endpoint"):
            return
        assert not (self.takes and self.ledger.queue), "a job waits although a worker asks for one"
        assert all(self.may_take(take.worker_id) for take in self.takes)
        for wait in self.waits:
            assert self.ledger.lives[wait.job_id].status not in ENDED
            assert self.clock.now_ms() < wait.until_ms

    @invariant()
    def whoever_lives_was_started(self):
        if hasattr(self, "endpoint"):
            assert set(self.launcher.alive) == set(self.ledger.hands)


TestLifeOfJobs = LifeOfJobs.TestCase
TestLifeOfJobs.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
