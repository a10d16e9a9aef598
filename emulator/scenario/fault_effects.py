"""What ordered faults do to a job that is being delivered, and to its worker (docs/faults.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.core.result import JobResult

if TYPE_CHECKING:
    from emulator.core.endpoint import Endpoint
    from emulator.core.job import Job
    from emulator.core.worker import Worker
    from emulator.scenario.faults import FaultRule

#: How long a worker has been at a job when it crashes in the middle of it, unless the rule says.
_MID_MS = 100


def afflict(endpoint: Endpoint, worker: Worker, job: Job, rule: FaultRule) -> bool:
    """Have a fault take its course; whether the worker gets to see the job."""
    match rule.effect:
        case "fail":
            endpoint.finish(job, worker, JobResult(error=rule.value))
            return False
        case "crash":
            # Not at once: whoever delivers the job has not finished with the worker.
            after_ms = 0 if rule.value == "before" else rule.more.get("after_ms", _MID_MS)
            endpoint.clock.call_later(after_ms, "ordered crash", _crash, (endpoint, worker, job.id))
            if rule.value == "before":
                worker.afflictions[job.id] = "hang"
            return bool(rule.value == "mid")
        case "duplicate":
            endpoint.deliver_again(job)
        case "stop_heartbeat":
            worker.afflictions[job.id] = rule.effect
            endpoint.expect_heartbeat(worker)
        case _:
            worker.afflictions[job.id] = rule.effect
    return rule.effect != "hang"


def _crash(victim: tuple[Endpoint, Worker, str]) -> None:
    endpoint, worker, job_id = victim
    if job_id in worker.jobs:
        endpoint.crash_worker(worker, "it was ordered to crash")
