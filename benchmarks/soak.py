"""Five minutes of everything at sixty times the speed: afterwards the emulator holds what it held before.

    python -m benchmarks.soak [--seconds 300] [--clock scaled:60]

All kinds of workers, ordered faults, webhooks, streams, cancelled jobs, and clients that hang up. Exits
with 1 when descriptors, threads, tasks, timers or memory are not back where they were.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from emulator import Emulator, EndpointConfig
from emulator.clock.clock import clock_of
from emulator.core.config import WorkerKind

HANDLER = """
import time
import runpod

def handler(job):
    job_input = job["input"]
    runpod.serverless.progress_update(job, "half")
    time.sleep(job_input.get("seconds", 0))
    if job_input.get("fails"):
        raise ValueError("ordered")
    return job_input

def stream(job):
    yield from range(job["input"].get("chunks", 3))

async def coroutine(job):
    return job["input"]

if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
"""
INLINE = ("inline-sync", "inline-stream", "inline-async")
ENDPOINTS = (*INLINE, "process", "external", "mock")
FAULTS: tuple[dict[str, Any], ...] = (
    {"match": {"operation": "status"}, "probability": 0.05, "then": {"status": 503}},
    {"match": {"operation": "run"}, "probability": 0.05, "then": {"status": 429}},
    {"match": {"operation": "health"}, "probability": 0.1, "then": {"latency_ms": 5_000}},
    {"match": {"operation": "runsync"}, "probability": 0.02, "then": {"connection": "reset"}},
    {"probability": 0.05, "then": {"crash": "mid"}},
    {"probability": 0.05, "then": {"fail": "ordered"}},
    {"probability": 0.05, "then": {"stall_ms": 10_000}},
    {"probability": 0.1, "then": {"webhook": "refuse"}},
)
#: Half seconds in which nothing changes, with which all has come to rest: longer than connections are kept.
STILL = 20
#: What the thread of an inline worker has open: two loops, each with an epoll and a pair of sockets. It
#: outlives its worker, for the next (workers/workplaces.py): there are as many as there were at a time.
DESCRIPTORS_OF_A_THREAD = 6
#: Clients at a time; and how much more than before is a leak.
CLIENTS = 12
MORE_DESCRIPTORS, MORE_THREADS, MORE_TASKS, MORE_TIMERS, MORE_MIB = 4, 3, 3, 6, 40


@dataclass(slots=True)
class Held:
    """What the process holds, the threads of inline workers beside the rest."""

    descriptors: int
    threads: int
    inline: int
    tasks: int
    timers: int
    mib: float
    processes: int

    def counts(self) -> tuple[int, int, int]:
        return self.descriptors, self.threads, self.tasks

    def row(self, name: str) -> str:
        return (
            f"{name:>8} {self.descriptors:>12} {self.threads:>8} {self.inline:>7} {self.tasks:>6}"
            f" {self.timers:>7} {self.mib:>8.1f} {self.processes:>10}"
        )


#: Endpoints whose handlers have threads, by workers that there are at most.
INLINE_THREADS_MAX = 3 * EndpointConfig().workers_max


class Soak:
    """One emulator, its clients, and a worker from elsewhere."""

    def __init__(self, emulator: Emulator, url: str, folder: Path) -> None:
        self.emulator = emulator
        self.url = url
        self.folder = folder
        self.random = random.Random(13)
        self.counts: Counter[str] = Counter()

    async def rest(self) -> Held:
        """Forget all, let everything come to rest, and count."""
        async with self._client() as http:
            await http.post("/_emulator/reset")
        held, same = self._held(), 0
        for _ in range(120):
            await asyncio.sleep(0.5)
            gc.collect()
            now = self._held()
            same = same + 1 if now.counts() == held.counts() else 0
            held = now
            if same == STILL:
                break
        return held

    async def load(self, seconds: float) -> None:
        """Clients, a worker from elsewhere and faults, for so many real seconds."""
        until = time.monotonic() + seconds
        async with self._client() as http:
            for fault in FAULTS:
                (await http.post("/_emulator/faults", json=fault)).raise_for_status()
        worker = asyncio.create_task(self._external_worker())
        try:
            await asyncio.gather(*(self._be_a_client(until) for _ in range(CLIENTS)))
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    def jobs(self) -> dict[str, dict[str, int]]:
        """How many jobs of each endpoint have ended, since all was forgotten."""
        return {name: self.emulator.endpoint(name).health()["jobs"] for name in ENDPOINTS}

    def descriptors(self) -> Counter[str]:
        """What the process has open, by kind."""
        counts: Counter[str] = Counter()
        for each in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                counts[str(each.readlink()).split(":")[0]] += 1
        for connection in psutil.Process().net_connections():
            counts[f"socket {connection.status}"] += 1
        return counts

    def _held(self) -> Held:
        process = psutil.Process()
        inline = sum(thread.name.startswith("runpod-worker-") for thread in threading.enumerate())
        return Held(
            descriptors=process.num_fds() - inline * DESCRIPTORS_OF_A_THREAD,
            threads=threading.active_count() - inline,
            inline=inline,
            tasks=len(asyncio.all_tasks()),
            timers=self.emulator.clock.pending_count(),
            mib=process.memory_info().rss / 2**20,
            processes=len(process.children(recursive=True)),
        )

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, headers={"authorization": "x"}, trust_env=False, timeout=30.0
        )

    async def _be_a_client(self, until: float) -> None:
        while time.monotonic() < until:
            async with self._client() as http:
                for _ in range(20):
                    with suppress(httpx.HTTPError):
                        await self._call(http)

    async def _call(self, http: httpx.AsyncClient) -> None:
        choose = self.random.random
        at = f"/v2/{self.random.choice(ENDPOINTS)}"
        body: dict[str, Any] = {"input": {"seconds": 0.01 * choose(), "fails": choose() < 0.1, "chunks": 5}}
        if choose() < 0.3:
            body["webhook"] = f"{self.url}/_emulator/sink/soak"
        answer = await http.post(f"{at}/run", json=body)
        self.counts[str(answer.status_code)] += 1
        job_id = answer.json().get("id", "none")
        what = self.random.choice(
            ("status-sync", "stream", "status", "cancel", "hang up", "health", "runsync")
        )
        if what == "hang up":
            with suppress(httpx.HTTPError):
                await http.get(f"{at}/status-sync/{job_id}", timeout=0.05)
        elif what == "runsync":
            self.counts[str((await http.post(f"{at}/runsync?wait=1000", json=body)).status_code)] += 1
        elif what == "health":
            self.counts[str((await http.get(f"{at}/health")).status_code)] += 1
        else:
            wait = "" if what in ("status", "cancel") else "?wait=5000"
            answer = await http.post(f"{at}/{what}/{job_id}{wait}")
            self.counts[str(answer.status_code)] += 1

    async def _external_worker(self) -> None:
        async with self._client() as http:
            while True:
                try:
                    answer = await http.get("/v2/external/job-take/soak", timeout=5.0)
                    if answer.status_code == 200 and (job := answer.json()):
                        await http.post(
                            f"/v2/external/job-done/soak/{job['id']}", json={"output": job["input"]}
                        )
                except (httpx.HTTPError, ValueError):
                    await asyncio.sleep(0.05)


async def soak(seconds: float, clock: str) -> int:
    """Run it; 1 when something has not come back."""
    with tempfile.TemporaryDirectory() as folder:
        handler = Path(folder) / "handler.py"
        handler.write_text(HANDLER)
        inline = {"worker_kind": WorkerKind.INLINE, "workers_min": 1}
        endpoints = {
            "inline-sync": EndpointConfig(handler=f"{handler}:handler", **inline),
            "inline-stream": EndpointConfig(handler=f"{handler}:stream", **inline),
            "inline-async": EndpointConfig(handler=f"{handler}:coroutine", **inline),
            "process": EndpointConfig(handler=str(handler), worker_kind=WorkerKind.PROCESS, workers_min=1),
            "external": EndpointConfig(worker_kind=WorkerKind.EXTERNAL),
            "mock": EndpointConfig(workers_min=1),
        }
        emulator = Emulator(endpoints, clock=clock_of(clock), rate_limits=False)
        async with emulator, emulator.serve() as url:
            run = Soak(emulator, url, Path(folder))
            # What is loaded and grown once is no leak.
            await run.load(min(20.0, seconds / 3))
            before = await run.rest()
            kinds_before = run.descriptors()
            run.counts.clear()
            await run.load(seconds)
            during = run._held()
            jobs = run.jobs()
            after = await run.rest()
            kinds = run.descriptors()
    print(f"\n{'':>8} descriptors  threads  inline  tasks  timers  memory MiB  processes")
    for name, held in (("before", before), ("under it", during), ("after", after)):
        print(held.row(name))
    print("calls:", ", ".join(f"{count} of {status}" for status, count in sorted(run.counts.items())))
    for endpoint, ended in jobs.items():
        print(f"{endpoint:>14}: {ended['completed']} completed, {ended['failed']} failed")
    leaks = [
        f"{name}: {was:g} → {now:g}"
        for name, was, now, more in (
            ("descriptors", before.descriptors, after.descriptors, MORE_DESCRIPTORS),
            ("threads", before.threads, after.threads, MORE_THREADS),
            ("threads of inline workers", 0, after.inline, INLINE_THREADS_MAX),
            ("tasks", before.tasks, after.tasks, MORE_TASKS),
            ("timers", before.timers, after.timers, MORE_TIMERS),
            ("memory", before.mib, after.mib, MORE_MIB),
            ("answers of 500", 0, run.counts["500"], 0),
        )
        if now > was + more
    ]
    leaks += [f"{name} completed no job" for name, ended in jobs.items() if not ended["completed"]]
    if leaks:
        print("descriptors before:", dict(kinds_before), "after:", dict(kinds))
    print("not back where it was: " + "; ".join(leaks) if leaks else "all is back where it was")
    return int(bool(leaks))


def main() -> None:
    """Parse, run, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--clock", default="scaled:60")
    arguments = parser.parse_args()
    logging.getLogger("emulator").setLevel(logging.CRITICAL)
    os.environ.pop("EMULATOR_URL", None)
    sys.exit(asyncio.run(soak(arguments.seconds, arguments.clock)))


if __name__ == "__main__":
    main()
