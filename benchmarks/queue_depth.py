"""What a deep queue costs: memory for each job, and time for the next one.

It runs in a process of its own, without HTTP, so that the memory is the queue's alone.
"""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from benchmarks.figure import Figure, NotMeasured, Target
from benchmarks.report import say
from benchmarks.servers import ROOT
from emulator.clock.clock import VirtualClock
from emulator.core.config import EndpointConfig
from emulator.core.endpoint import Endpoint
from emulator.core.request import JobRequest

if TYPE_CHECKING:
    from benchmarks.report import Report
    from benchmarks.scale import Scale

SHALLOW = 1_000
_WITHIN_S = 150.0
#: Jobs timed together, and how often: a median of batches leaves out what is not the queue's doing.
_BATCH = 500
_BATCHES = 101


@dataclass(slots=True, kw_only=True)
class Depth:
    """What a queue of this depth costs."""

    jobs: int
    bytes_per_job: float = 0.0
    bytes_per_job_after_gc: float = 0.0
    submit_us: float = 0.0
    cancel_us: float = 0.0
    #: Filling and emptying the queue as a whole, the interpreter's garbage collection included.
    fill_us_per_job: float = 0.0
    longest_submit_ms: float = 0.0
    purge_us_per_job: float = 0.0


def measure(report: Report, scale: Scale) -> None:
    """Fill a queue in a new process, a little and then all the way.

    :raises NotMeasured: it did not get there.
    """
    say(f"queue_depth: {scale.deep_queue:,} jobs".replace(",", " "))
    shallow, deep = _measured_apart(SHALLOW), _measured_apart(scale.deep_queue)
    at = f"at {deep.jobs:,}".replace(",", " ")
    kib = Target.at_most(1.2)
    report.add(
        "queue_depth",
        Figure(name=f"memory per job {at}", value=deep.bytes_per_job / 1024, unit="KiB", target=kib),
        Figure(
            name="memory per job after gc", value=deep.bytes_per_job_after_gc / 1024, unit="KiB", target=kib
        ),
        Figure(name=f"submit at {SHALLOW}", value=shallow.submit_us, unit="µs"),
        Figure(name=f"submit {at}", value=deep.submit_us, unit="µs"),
        Figure(
            name="submit, deep / shallow",
            value=deep.submit_us / shallow.submit_us,
            unit="x",
            target=Target.at_most(2),
        ),
        Figure(name=f"cancel at {SHALLOW}", value=shallow.cancel_us, unit="µs"),
        Figure(name=f"cancel {at}", value=deep.cancel_us, unit="µs"),
        Figure(
            name="cancel, deep / shallow",
            value=deep.cancel_us / shallow.cancel_us,
            unit="x",
            target=Target.at_most(2),
        ),
        Figure(name=f"parse and submit, mean up to {at[3:]}", value=deep.fill_us_per_job, unit="µs"),
        Figure(name="longest single submit", value=deep.longest_submit_ms, unit="ms"),
        Figure(name=f"purge {at}, per job", value=deep.purge_us_per_job, unit="µs"),
    )


def _measured_apart(jobs: int) -> Depth:
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.queue_depth", str(jobs)],
            cwd=ROOT,
            capture_output=True,
            timeout=_WITHIN_S,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired as error:
        raise NotMeasured(f"{jobs} jobs were not queued within {_WITHIN_S:g} s") from error
    if finished.returncode != 0:
        raise NotMeasured(f"{jobs} queued jobs: {finished.stderr.strip()[-500:]}")
    return Depth(**json.loads(finished.stdout))


class Filling:
    """An endpoint without workers on a clock that stands still, and the jobs in its queue."""

    def __init__(self) -> None:
        self._endpoint = Endpoint("bench", EndpointConfig(workers_max=0), VirtualClock(), lambda *event: None)
        self._submitted = 0
        self._queued_ids: list[str] = []
        self._random = random.Random(1)

    def fill(self, depth: Depth) -> None:
        """Queue the jobs as they come over HTTP: a body of their own each."""
        rss_before = _rss()
        began, longest_s = perf_counter(), 0.0
        for _ in range(depth.jobs):
            request = self._request()
            before = perf_counter()
            job = self._endpoint.submit(request)
            longest_s = max(longest_s, perf_counter() - before)
            self._queued_ids.append(job.id)
        depth.fill_us_per_job = (perf_counter() - began) / depth.jobs * 1e6
        depth.longest_submit_ms = longest_s * 1000
        # The list of ids is ours: a pointer for each, to a string the endpoint holds anyway.
        depth.bytes_per_job = (_rss() - rss_before - sys.getsizeof(self._queued_ids)) / depth.jobs
        gc.collect()
        depth.bytes_per_job_after_gc = (_rss() - rss_before - sys.getsizeof(self._queued_ids)) / depth.jobs

    def sample(self, depth: Depth) -> None:
        """Submit and cancel a few more at this depth, wherever in the queue they stand."""
        submits, cancels = [], []
        for _ in range(_BATCHES):
            requests = [self._request() for _ in range(_BATCH)]
            began = perf_counter()
            jobs = [self._endpoint.submit(request) for request in requests]
            submits.append((perf_counter() - began) / _BATCH)
            self._queued_ids += [job.id for job in jobs]
            victims = [self._take_any_id() for _ in range(_BATCH)]
            began = perf_counter()
            for job_id in victims:
                self._endpoint.cancel(job_id)
            cancels.append((perf_counter() - began) / _BATCH)
        depth.submit_us, depth.cancel_us = median(submits) * 1e6, median(cancels) * 1e6

    def purge(self, depth: Depth) -> None:
        """Empty the queue in one call."""
        began = perf_counter()
        removed = self._endpoint.purge_queue()
        depth.purge_us_per_job = (perf_counter() - began) / removed * 1e6
        if removed != depth.jobs:
            raise NotMeasured(f"{removed} jobs were queued instead of {depth.jobs}")

    def _request(self) -> JobRequest:
        """A job whose input is 100 bytes of JSON."""
        self._submitted += 1
        body = (
            b'{"input":{"prompt":"a lighthouse at dusk, oil on canvas, wide shot, %031d"}}' % self._submitted
        )
        return JobRequest.parse(body, self._endpoint.default_policy)

    def _take_any_id(self) -> str:
        at = self._random.randrange(len(self._queued_ids))
        self._queued_ids[at], self._queued_ids[-1] = self._queued_ids[-1], self._queued_ids[at]
        return self._queued_ids.pop()


def _rss() -> int:
    rss: int = psutil.Process().memory_info().rss
    return rss


def main() -> None:
    """Measure the depth given as argument; write it to stdout."""
    depth, filling = Depth(jobs=int(sys.argv[1])), Filling()
    gc.collect()
    filling.fill(depth)
    filling.sample(depth)
    filling.purge(depth)
    print(json.dumps(asdict(depth)))


if __name__ == "__main__":
    main()
