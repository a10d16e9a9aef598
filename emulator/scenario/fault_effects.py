"""What ordered faults do to jobs and workers, each with its sentence of docs/faults.md.

What they do to calls is in `api/call_faults.py`, what to webhooks in `webhooks/deliveries.py`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from emulator.core.events import FaultFired, Notice, unfailing
from emulator.core.interference import Interference
from emulator.core.job import JobStatus
from emulator.core.result import JobResult
from emulator.scenario.fault_rule import Point

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from emulator.core.endpoint import Endpoint
    from emulator.core.events import Event
    from emulator.core.job import Job
    from emulator.core.worker import Worker
    from emulator.scenario.fault_rule import FaultRule
    from emulator.scenario.faults import Faults

#: How long a worker has been at a job when it crashes in the middle of it, unless the rule says.
_MID_MS = 100


class FaultEffects(Interference):
    """The faults of one endpoint. `faults` are the whole emulator's; `emit` tells of each that struck."""

    def __init__(self, endpoint: Endpoint, faults: Faults, emit: Callable[[Event], None]) -> None:
        self.faults = faults
        self._endpoint = endpoint
        self._emit = unfailing(emit)
        #: `stall_ms`: the jobs that are kept out of the queue.
        self._stalled: dict[Job, None] = {}
        #: `duplicate`: the next worker that asks gets them too.
        self._duplicates: deque[Job] = deque()
        #: The effect under which each of these jobs is at a worker, by the workers' ids.
        self._afflictions: dict[str, dict[str, str]] = {}

    def strike(
        self,
        point: Point,
        read_input: Callable[[], object],
        *,
        operation: str | None = None,
        only_named: bool = False,
        job_id: str | None = None,
        worker_id: str | None = None,
    ) -> FaultRule | None:
        """The fault that was ordered for this, if one was; see `Faults.strike`."""
        if not self.faults.any_at(point):
            return None
        endpoint = self._endpoint
        try:
            rule = self.faults.strike(point, endpoint.id, read_input, operation, only_named=only_named)
        except Exception as error:  # whatever is asked whether it matches must not break off what is going on
            told = f"the faults ordered for it cannot be looked for: {type(error).__name__}: {error}"
            self._emit(Notice(endpoint.id, "warning", told, endpoint.clock.now_ms(), job_id, worker_id))
            return None
        if rule is not None:
            effect, now_ms = f"{rule.effect}: {rule.value}", endpoint.clock.now_ms()
            self._emit(FaultFired(endpoint.id, rule.id, effect, now_ms, job_id, worker_id))
        return rule

    def clear(self) -> None:
        """What has struck so far is over."""
        self._stalled.clear()
        self._duplicates.clear()
        self._afflictions.clear()

    # A job joins the queue

    def holds_back(self, job: Job) -> bool:
        """`stall_ms`: nobody is given it for so long; it can be cancelled, and its ttl runs."""
        if not self.faults.in_force:
            return False
        rule = self.strike(Point.QUEUE, lambda: job.input, job_id=job.id)
        if rule is None:
            return False
        self._stalled[job] = None
        self._endpoint.clock.call_later(rule.value, "ordered stall", self._on_stall_over, job)
        return True

    def held_back(self) -> Collection[Job]:
        """The jobs that stall."""
        if self._stalled:
            self._stalled = {job: None for job in self._stalled if job.status is JobStatus.IN_QUEUE}
        return self._stalled

    def _on_stall_over(self, job: Job) -> None:
        if job in self.held_back():
            del self._stalled[job]
            self._endpoint.life.admit(job)

    # A worker is given a job

    def delivers(self, job: Job, worker: Worker) -> bool:
        """Have the fault that was ordered for the job take its course."""
        if not self.faults.in_force:
            return True
        rule = self.strike(Point.DELIVERY, lambda: job.input, job_id=job.id, worker_id=worker.id)
        if rule is None:
            return True
        match rule.effect:
            case "fail":
                # It fails as soon as a worker would get it.
                self._endpoint.life.finish(job, worker, JobResult(error=rule.value))
                return False
            case "hang":
                # It takes the job and is never heard of again, until executionTimeout ends it.
                self._afflict(worker, job, rule.effect)
                worker.paused = "hangs, as was ordered (hang)"
                return False
            case "crash":
                return self._crashes(job, worker, rule)
            case "duplicate":
                self._deliver_again(job)
            case "stop_heartbeat":
                # Its heartbeats stop: it is lost after a while, with its job.
                self._afflict(worker, job, rule.effect)
                timeout_ms = self._endpoint.config.heartbeat_timeout_ms
                self._endpoint.clock.call_later(timeout_ms, "heartbeat", self._on_silence, (worker, job.id))
            case "lose_result" | "lose_output" | "ignore_cancel":
                self._afflict(worker, job, rule.effect)
        return True

    def _afflict(self, worker: Worker, job: Job, effect: str) -> None:
        self._afflictions.setdefault(worker.id, {})[job.id] = effect

    def _effect_on(self, worker: Worker, job: Job) -> str | None:
        return self._afflictions.get(worker.id, {}).get(job.id) if self._afflictions else None

    def forget(self, worker: Worker) -> None:
        """A worker has gone: what was done to it is over."""
        if self._afflictions:
            self._afflictions.pop(worker.id, None)

    def _crashes(self, job: Job, worker: Worker, rule: FaultRule) -> bool:
        """It dies before its handler begins, or while it runs."""
        before = rule.value == "before"
        # Not at once: whoever delivers the job has not finished with the worker.
        after_ms = 0 if before else rule.more.get("after_ms", _MID_MS)
        self._endpoint.clock.call_later(after_ms, "ordered crash", self._crash, (worker, job.id))
        if before:
            worker.paused = "is about to crash, as was ordered (crash)"
        return not before

    def _crash(self, victim: tuple[Worker, str]) -> None:
        worker, job_id = victim
        if job_id in worker.jobs:
            self._endpoint.life.crash_worker(worker, "it was ordered to crash")

    def _on_silence(self, victim: tuple[Worker, str]) -> None:
        worker, _ = victim
        if self.silences(worker):
            self._endpoint.life.crash_worker(worker, "its heartbeats were ordered to stop")

    # A second worker gets a job too; its result is dropped, as production drops a late one

    def _deliver_again(self, job: Job) -> None:
        self._duplicates.append(job)
        # Not at once: the worker that is given it now is not to be the second.
        self._endpoint.clock.call_later(0, "ordered duplicate", self._wake_another, job)

    def _wake_another(self, job: Job) -> None:
        if self._duplicates:
            self._endpoint.takers.release_another(job.worker_id)

    def gives_beside(self, worker: Worker) -> list[Job]:
        """The job that was ordered to be delivered twice."""
        if not self._duplicates or self._duplicates[0].worker_id == worker.id:
            return []
        return [self._duplicates.popleft()]

    # What a worker brings, and hears

    def hands_on(self) -> bool:
        """Not while a fault for calls is in force: it may be one for the call that asks for a job."""
        return not self.faults.any_at(Point.CALL)

    def loses_result(self, job: Job, worker: Worker) -> bool:
        """`lose_result`: its result does not arrive; the job is missed after a while, and runs again."""
        if self._effect_on(worker, job) != "lose_result":
            return False
        self._afflictions[worker.id].pop(job.id)
        self._endpoint.life.miss(job, worker, "its result was ordered to get lost")
        return True

    def loses_output(self, job: Job, worker: Worker) -> bool:
        """`lose_output`: it completes, and nothing of what its handler returned is there."""
        if self._effect_on(worker, job) != "lose_output":
            return False
        self._afflictions[worker.id].pop(job.id)
        return True

    def swallows_stop(self, job: Job, worker: Worker) -> bool:
        """`ignore_cancel`: it does not hear that it is to stop, and is killed after the grace period.

        One that hangs hears nothing either.
        """
        return self._effect_on(worker, job) in ("hang", "ignore_cancel")

    def silences(self, worker: Worker) -> bool:
        """Whether its heartbeats were ordered to stop."""
        return bool(self._afflictions) and "stop_heartbeat" in self._afflictions.get(worker.id, {}).values()

    # A worker is to be started

    def delays_start(self, worker: Worker) -> bool:
        """`slow_start_ms`: it takes so much longer. `throttled_ms`: no machine is free for it for so long."""
        rule = self.strike(Point.START, lambda: None, worker_id=worker.id)
        if rule is None:
            return False
        throttled = rule.effect == "throttled_ms"
        self._endpoint.pool.start_later(worker, rule.value, throttled=throttled)
        return True
