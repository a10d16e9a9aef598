"""Workers that come by themselves, are parked, fall silent or give way to newer code lose no job.

`test_life_of_jobs` keeps exact books of endpoints without these; here the books are coarser.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from emulator.clock.clock import VirtualClock
from emulator.core.config import EndpointConfig
from emulator.core.endpoint import Endpoint
from emulator.core.events import JobMoved, WorkerMoved
from emulator.core.gateway import Gateway
from emulator.core.result import JobResult
from emulator.errors import WorkerGone
from tests.unit.manual_workers import ManualLauncher

if TYPE_CHECKING:
    from emulator.core.events import Event
    from emulator.core.job import Job

PICK = st.integers(0, 1000)
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


class SlowlyDying(ManualLauncher):
    """Workers that are to be killed are dead only when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.dying: list[str] = []

    def kill(self, worker_id: str) -> bool:
        super().kill(worker_id)
        self.dying.append(worker_id)
        return True

    def stop(self, worker_id: str) -> None:
        if worker_id in self.alive:
            super().stop(worker_id)


class ComingAndGoing(RuleBasedStateMachine):
    """Workers of every origin, each doing what it pleases, and time."""

    @initialize(
        workers_min=st.integers(0, 1),
        workers_max=st.integers(0, 2),
        flashboot=st.sampled_from([True, True, False]),
        scaler=st.sampled_from(["QUEUE_DELAY", "REQUEST_COUNT"]),
    )
    def open(self, workers_min, workers_max, flashboot, scaler):
        self.runner = asyncio.Runner()
        self.clock = VirtualClock(start_ms=0)
        config = EndpointConfig(
            workers_min=min(workers_min, workers_max), workers_max=workers_max, flashboot=flashboot,
            scaler_type=scaler, scaler_value=1,
        )  # fmt: skip
        self.endpoint = Endpoint("ep", config, self.clock, self.hear)
        self.gateway = Gateway(self.endpoint)
        self.launcher = SlowlyDying()
        self.jobs: list[Job] = []
        self.takes: list[tuple[str, asyncio.Task[list[Job]]]] = []
        #: How often each job has ended, and each (worker, job) that was delivered.
        self.ends: Counter[str] = Counter()
        self.deliveries: list[tuple[str, str]] = []
        self.strangers = 0
        self.run(self.endpoint.open, self.launcher)

    def teardown(self):
        if hasattr(self, "runner"):
            self.runner.run(self._cancel_takes())
            self.runner.close()

    async def _cancel_takes(self):
        for _, task in self.takes:
            task.cancel()
        await asyncio.gather(*(task for _, task in self.takes), return_exceptions=True)

    def hear(self, _: Endpoint, event: Event) -> None:
        if isinstance(event, JobMoved):
            assert event.before != event.job.status
            self.ends[event.job.id] += event.job.status in ENDED
            assert self.ends[event.job.id] <= 1, "a job ends once"
            assert event.job.retries <= 1
        elif isinstance(event, WorkerMoved):
            assert event.before != event.after

    def run(self, function, *arguments, **named):
        async def call():
            result = function(*arguments, **named)
            if asyncio.iscoroutine(result):
                result = await result
            await self.clock.settle()
            return result

        result = self.runner.run(call())
        for take in [take for take in self.takes if take[1].done()]:
            self.takes.remove(take)
            if not isinstance(take[1].exception(), WorkerGone):
                self.deliveries += [(take[0], job.id) for job in take[1].result()]
        return result

    def known(self):
        """The workers that could call now, parked and gone ones among them."""
        return [*self.launcher.alive, *(f"stranger-{number}" for number in range(self.strangers))]

    @rule(low=st.booleans(), ttl=st.sampled_from([None, 10_000, 60_000]))
    def submit(self, low, ttl):
        policy = {"lowPriority": low, **({} if ttl is None else {"ttl": ttl})}
        self.jobs.append(self.run(self.endpoint.submit, {"input": {"n": 1}, "policy": policy}))

    @rule()
    def a_stranger_comes(self):
        self.strangers += 1

    @precondition(lambda self: self.known())
    @rule(
        pick=PICK,
        limit=st.integers(1, 2),
        in_progress=st.sampled_from([None, False, True]),
        hold_ms=st.just(60_000),
    )
    def take(self, pick, limit, in_progress, hold_ms):
        worker_id = self.known()[pick % len(self.known())]
        self.ask(worker_id, limit=limit, hold_ms=hold_ms, in_progress=in_progress)

    @rule()
    def everyone_without_a_job_asks(self):
        for worker_id in self.known():
            worker = self.endpoint.pool.get(worker_id)
            if worker is None or not worker.jobs:
                self.ask(worker_id, hold_ms=60_000)

    def ask(self, worker_id, **options):
        if worker_id in [waiting for waiting, _ in self.takes]:
            return
        if worker_id not in self.launcher.alive:
            self.run(self.gateway.meet, worker_id)

        def begin():
            taking = self.gateway.take(worker_id, **options)
            self.takes.append((worker_id, asyncio.get_running_loop().create_task(taking)))

        self.run(begin)

    @rule()
    def all_is_done(self):
        for worker in list(self.endpoint.pool):
            for job_id in list(worker.jobs):
                self.run(self.gateway.finish, worker.id, job_id, JobResult(output_json=b"1"))

    @precondition(lambda self: self.deliveries)
    @rule(pick=PICK, error=st.booleans(), stop_worker=st.booleans())
    def finish(self, pick, error, stop_worker):
        worker_id, job_id = self.deliveries[-1 - pick % min(4, len(self.deliveries))]
        result = JobResult(output_json=b"1", error="bad" if error else None, stop_worker=stop_worker)
        self.run(self.gateway.finish, worker_id, job_id, result)

    @precondition(lambda self: self.known())
    @rule(pick=PICK, names_all=st.booleans())
    def heartbeat(self, pick, names_all):
        worker_id = self.known()[pick % len(self.known())]
        worker = self.endpoint.pool.get(worker_id)
        named = list(worker.jobs) if worker is not None and names_all else []
        if worker is not None:
            self.run(self.gateway.heartbeat, worker_id, named, missed_when_silent=worker.external)

    @precondition(lambda self: self.launcher.alive)
    @rule(pick=PICK)
    def crash(self, pick):
        worker_id = self.launcher.alive[pick % len(self.launcher.alive)]
        self.run(self.gateway.crashed, worker_id, "it crashed")
        if self.endpoint.pool.get(worker_id) is None:
            # It was parked, or had newer code: it is not started again.
            self.launcher.alive.remove(worker_id)

    @precondition(lambda self: self.launcher.dying)
    @rule()
    def the_dying_die(self):
        for worker_id in list(self.launcher.dying):
            self.launcher.dying.remove(worker_id)
            self.run(self.gateway.ended, worker_id)

    @precondition(lambda self: self.known())
    @rule(pick=PICK)
    def complain(self, pick):
        self.run(self.gateway.complain, self.known()[pick % len(self.known())], "no GPU")

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def cancel(self, pick):
        job = self.jobs[pick % len(self.jobs)]
        if job.status not in ENDED:
            self.run(self.endpoint.cancel, job.id)

    @rule()
    def save_the_code(self):
        self.run(self.endpoint.reload)

    @rule(by_ms=st.sampled_from([500, 1_000, 3_000, 5_000, 10_000, 40_000]))
    def advance(self, by_ms):
        self.run(self.clock.advance, by_ms)

    @invariant()
    def every_job_is_in_one_place(self):
        if not hasattr(self, "endpoint"):
            return
        held = Counter(job_id for worker in self.endpoint.pool for job_id in worker.jobs)
        queued = {job.id for job in self.endpoint.queue}
        for job in self.jobs:
            assert (job.id in queued) == (job.status == "IN_QUEUE")
            assert held[job.id] == (job.status == "IN_PROGRESS")

    @invariant()
    def the_counts_add_up(self):
        if not hasattr(self, "endpoint"):
            return
        health, statuses = self.endpoint.health(), Counter(job.status for job in self.jobs)
        jobs = health["jobs"]
        assert jobs["inQueue"] == statuses["IN_QUEUE"]
        assert jobs["inProgress"] == statuses["IN_PROGRESS"]
        assert jobs["completed"] == statuses["COMPLETED"]
        assert jobs["failed"] == statuses["FAILED"] + statuses["TIMED_OUT"]
        workers = Counter(worker.state for worker in self.endpoint.pool)
        assert sum(workers.values()) == sum(health["workers"].values()) - health["workers"]["ready"]

    @invariant()
    def no_job_waits_for_a_worker_that_waits_for_one(self):
        if not hasattr(self, "endpoint") or not len(self.endpoint.queue):
            return
        for worker_id, _ in self.takes:
            assert self.endpoint.pool.parked(worker_id) is not None, "a job waits beside a worker that asks"

    @invariant()
    def nobody_is_forgotten(self):
        """Who was started is in the pool, parked, or dying: else its process would live for ever."""
        if hasattr(self, "endpoint"):
            ours = {worker.id for worker in self.endpoint.pool if not worker.external}
            for worker_id in self.launcher.alive:
                assert worker_id in ours or self.endpoint.pool.parked(worker_id) is not None
            assert ours <= {*self.launcher.alive, *self.launcher.dying}


TestComingAndGoing = ComingAndGoing.TestCase
TestComingAndGoing.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
