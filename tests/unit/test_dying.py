"""The life of jobs, whatever happens and in any order, in a process that dies now and then and comes back."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from emulator.clock.clock import VirtualClock
from emulator.core.endpoint import Endpoint
from emulator.core.events import ChunksRead, JobForgotten, JobMoved
from emulator.core.gateway import Gateway
from emulator.ledger.database import Database
from emulator.ledger.ledger import Ledger
from emulator.ledger.parts import Served
from emulator.ledger.retelling import Retelling
from emulator.scenario.faults import Faults
from emulator.webhooks.deliveries import Webhooks
from tests.unit.manual_workers import ManualLauncher
from tests.unit.test_life_of_jobs import LifeOfJobs


class DyingAndComingBack(LifeOfJobs):
    """All that `LifeOfJobs` does, with the end of the process as one more step."""

    def make_endpoint(self, hear):
        self.folder = tempfile.TemporaryDirectory()
        self.lives = 0
        self.path = Path(self.folder.name, "state.db")
        self.database = Database(self.path, "off")
        self.written = Ledger(self.database, lambda: ())
        return self.build(hear)

    def build(self, hear):
        life = self.lives
        written = self.written

        def tell(endpoint, event):
            if life != self.lives:
                return  # It is dead.
            written.on_event(endpoint, event)
            if isinstance(event, ChunksRead | JobForgotten):
                return
            if isinstance(event, JobMoved) and event.job.id in self.ledger.lives:
                self.ledger.lives[event.job.id].job = event.job
            hear(endpoint, event)

        endpoint = Endpoint("ep", self.config, self.clock, tell)
        self.hear = hear
        return endpoint

    def teardown(self):
        super().teardown()
        if hasattr(self, "folder"):
            self.written._thread.shutdown()
            self.database.close()
            self.folder.cleanup()

    @precondition(LifeOfJobs.some_job)
    @rule(sure=st.booleans())
    def die_and_come_back(self, sure):
        if sure:
            self.run(self.written.kept)
            self.runner.run(self._die_and_come_back())
            self.run(self.endpoint.open, self.launcher)

    async def _die_and_come_back(self):
        before = self.told()
        self.lives += 1
        await self._cancel_tasks()
        self.takes.clear()
        self.waits.clear()
        self.stop_polls.clear()
        now_ms = self.clock.now_ms()
        self.clock.close()
        left = self.path.with_name(f"{self.lives}.db")
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{self.path}{suffix}", f"{left}{suffix}")
        self.written._closed = True
        await asyncio.to_thread(self.written._thread.shutdown)
        self.database.close()
        self.path, self.clock = left, VirtualClock(start_ms=now_ms)
        self.database = Database(left, "off")
        self.written = Ledger(self.database, lambda: ())
        self.launcher = ManualLauncher()
        self.endpoint = self.build(self.hear)
        self.gateway = Gateway(self.endpoint)
        self.ledger.hands.clear()
        self.ledger.came_back = True
        database = self.database
        retelling = Retelling(database.jobs(), database.chunks(), database.deliveries(), database.parts())
        assert self.told_by(retelling) == before
        await retelling.tell(
            Served(
                clock=self.clock,
                endpoints={"ep": self.endpoint},
                scenarios=_NoStubs(),
                faults=Faults(),
                webhooks=Webhooks(None, {}),
                given=lambda: frozenset({"ep"}),
                add_endpoint=None,
            ),
            self.written,
        )
        self.ledger.came_back = False
        for job_id, life in self.ledger.lives.items():
            life.job = self.endpoint.find(job_id) or life.job

    def told(self):
        """What a client could ask of each job."""
        return sorted(_told(job) for job in self.endpoint.newest_jobs() if job.status != "TIMED_OUT")

    def told_by(self, retelling):
        return sorted(_told(kept.job) for some in retelling._kept.values() for kept in some)


def _told(job):
    return (
        job.id, job.status, job.body, repr(job.policy), job.sync, job.retries,
        job.submitted_ms, job.queued_ms,
        job.started_ms or 0, job.ended_ms or 0, job.delay_ms or 0, job.execution_ms or 0, job.worker_id or "",
        job.output_json or b"", job.error or "", tuple(job.chunks or ()),
    )  # fmt: skip


class _NoStubs(dict):
    def __missing__(self, endpoint):
        return type("Scenario", (), {"stubs": ()})


TestDyingAndComingBack = DyingAndComingBack.TestCase
TestDyingAndComingBack.settings = settings(max_examples=60, stateful_step_count=50)
