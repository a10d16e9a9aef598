"""An emulator that is killed again and again while all sorts of clients use it, and what they were told."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import textwrap
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import httpx

from tests.api.receiver import Receiver, receiving
from tests.cli.command import environment
from tests.limits import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

TERMINAL = ("COMPLETED", "FAILED", "CANCELLED")
#: A bare function in a process of its own. It says when it finds its job in the hands of another that lives.
HANDLER = """
    import os

    def lives(pid):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def handler(job):
        with open("runs.txt", "a+") as runs:
            runs.seek(0)
            open_runs = {}
            for line in runs:
                what, job_id, pid = line.split()
                if what == "begin":
                    open_runs[job_id] = int(pid)
                else:
                    open_runs.pop(job_id, None)
            other = open_runs.get(job["id"])
            if other is not None and lives(other):
                runs.write(f"twice {job['id']} {other}\\n")
            runs.write(f"begin {job['id']} {os.getpid()}\\n")
        total = sum(range(job["input"]["work"]))
        with open("runs.txt", "a") as runs:
            runs.write(f"end {job['id']} {os.getpid()}\\n")
        return total
"""
SETTINGS = """
    state = "state.db"
    rate-limits = false
    journal-entries = 0
    log-level = "warning"

    [endpoints.ext]
    worker-kind = "external"

    [endpoints.proc]
    handler = "handler.py:handler"
    worker-kind = "process"
    workers-max = 1
"""


class Books:
    """What the clients were told: no word of it may turn out to be untrue."""

    def __init__(self) -> None:
        #: The endpoint of each job whose submission was answered.
        self.accepted: dict[str, str] = {}
        #: The last state in which each was found, if it is one that lasts.
        self.ended: dict[str, str] = {}
        #: How often each was to be tried again.
        self.tries: Counter[str] = Counter()
        #: Who of the external workers has which job.
        self.held: dict[str, str] = {}
        self.untrue: list[str] = []
        self.answers = 0

    def found(self, job_id: str, status: str, before: tuple[str | None, int]) -> None:
        """It is in this state; `before` is what was known as that was asked."""
        known, tries = before
        if tries != self.tries[job_id]:
            return
        if known is not None and status != known:
            self.untrue.append(f"{job_id} was {known} and is {status}")
        if status in TERMINAL:
            self.ended[job_id] = status

    def known(self, job_id: str) -> tuple[str | None, int]:
        return self.ended.get(job_id), self.tries[job_id]


class Siege:
    """One emulator, its clients, and who kills it."""

    def __init__(self, folder: Path, receiver: Receiver, seed: int) -> None:
        self.folder = folder
        self.receiver = receiver
        self.books = Books()
        self.random = random.Random(seed)
        self.up = asyncio.Event()
        self.answered = asyncio.Event()
        self.over = False
        #: How many webhooks had come before each kill.
        self.webhooks_before: list[int] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "emulator.toml").write_text(textwrap.dedent(SETTINGS))
        (folder / "handler.py").write_text(textwrap.dedent(HANDLER))

    async def run(self, kills: int) -> None:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"authorization": "any"},
            trust_env=False,
            timeout=PATIENCE_S,
            limits=httpx.Limits(max_connections=None),
        ) as self.http:
            clients = [asyncio.create_task(self.submitter(name)) for name in ("ext", "ext", "proc")]
            clients += [asyncio.create_task(self.meddler()) for _ in range(2)]
            workers = [asyncio.create_task(self.worker(f"w{number}")) for number in range(3)]
            for _ in range(kills):
                process = await self.start()
                enough = self.books.answers + self.random.randint(30, 300)
                while self.books.answers < enough:
                    await self.an_answer()
                    self.check(*clients, *workers)
                self.up.clear()
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait)
                process.stdout.close()
            self.over = True
            process = await self.start()
            await asyncio.gather(*clients)
            await self.all_end()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            process.terminate()
            await asyncio.to_thread(process.wait)
            process.stdout.close()

    def check(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            if task.done():
                task.result()
        assert self.books.untrue == []

    async def start(self) -> Any:
        process = await asyncio.to_thread(self._start)
        self.up.set()
        return process

    def _start(self) -> Any:
        with (self.folder / "stderr.txt").open("a") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "emulator", "serve", "--port", str(self.port)],
                cwd=self.folder,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        # Whatever the last one had sent has arrived by now, and this one has not begun.
        self.webhooks_before.append(len(self.receiver.requests))
        for line in process.stdout:
            if line == "Ready.\n":
                return process
        raise AssertionError((self.folder / "stderr.txt").read_text()[-2_000:])

    async def ask(self, method: str, path: str, body: object = None) -> httpx.Response | None:
        """The answer; None when the emulator was killed meanwhile."""
        await self.up.wait()
        try:
            answer = await self.http.request(method, path, content=None if body is None else json.dumps(body))
        except httpx.TransportError:
            return None
        self.books.answers += 1
        self.answered.set()
        self.answered = asyncio.Event()
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        return answer

    async def an_answer(self) -> None:
        """Return when anybody has been answered."""
        await self.answered.wait()

    # Who uses it

    async def submitter(self, endpoint: str) -> None:
        while not self.over:
            body = {"input": {"work": self.random.randint(1, 50_000)}, "webhook": self.receiver.url}
            answer = await self.ask("POST", f"/v2/{endpoint}/run", body)
            if answer is not None and answer.status_code == 200:
                self.books.accepted[answer.json()["id"]] = endpoint
            # No more than the workers can do in the end.
            while not self.over and len(self.books.accepted) > len(self.books.ended) + 60:
                await self.an_answer()

    async def meddler(self) -> None:
        """Looks at jobs, cancels some, tries failed ones again."""
        while not self.over:
            if not self.books.accepted:
                await self.an_answer()
                continue
            open_ids = [job_id for job_id in self.books.accepted if job_id not in self.books.ended]
            choices = open_ids if open_ids and self.random.random() < 0.8 else list(self.books.accepted)
            job_id = self.random.choice(choices[:40] or list(self.books.accepted))
            chance = self.random.random()
            if self.books.ended.get(job_id) == "FAILED" and job_id not in self.books.held and chance < 0.5:
                # From here on nobody can say how it stands: the answer may get lost.
                self.books.tries[job_id] += 1
                del self.books.ended[job_id]
                await self.ask("POST", f"/v2/{self.books.accepted[job_id]}/retry/{job_id}")
            elif chance < 0.1:
                await self.look(job_id, "cancel", "POST")
            else:
                await self.look(job_id, "status", "GET")

    async def look(self, job_id: str, operation: str, method: str) -> str | None:
        endpoint, before = self.books.accepted[job_id], self.books.known(job_id)
        answer = await self.ask(method, f"/v2/{endpoint}/{operation}/{job_id}")
        if answer is None or answer.status_code == 503:
            return None
        if answer.status_code == 404:
            self.books.untrue.append(f"{job_id} is lost")
            return None
        status: str = answer.json()["status"]
        self.books.found(job_id, status, before)
        return status

    async def worker(self, name: str) -> None:
        """An external one: streams, fails now and then, brings what it has until somebody takes it."""
        while True:
            answer = await self.ask("GET", f"/v2/ext/job-take/{name}?job_in_progress=0")
            if answer is None or answer.status_code != 200:
                continue
            job_id = answer.json()["id"]
            if (other := self.books.held.get(job_id)) is not None:
                self.books.untrue.append(f"{name} was given {job_id}, which {other} has")
            self.books.held[job_id] = name
            for number in range(self.random.randint(0, 3)):
                await self.ask("POST", f"/v2/ext/job-stream/{name}/{job_id}", {"output": number})
            result = {"error": "it failed"} if self.random.random() < 0.2 else {"output": job_id}
            while (done := await self.ask("POST", f"/v2/ext/job-done/{name}/{job_id}", result)) is None or (
                done.status_code != 200
            ):
                pass
            del self.books.held[job_id]

    async def all_end(self) -> None:
        for job_id in self.books.accepted:
            while await self.look(job_id, "status-sync", "GET") not in TERMINAL:
                self.check()
        while not self.told() >= {(job_id, self.books.ended[job_id]) for job_id in self.books.accepted}:
            await self.receiver.received(len(self.receiver.requests) + 1)

    def told(self) -> set[tuple[str, str]]:
        return {(request.job["id"], request.job["status"]) for request in self.receiver.requests}


async def besiege(folder: Path, *, kills: int, seed: int) -> Counter[str]:
    """Kill an emulator so often; returns how many jobs ended how.

    :raises AssertionError: something that a client was told was not so.
    """
    async with asyncio.timeout(PATIENCE_S * max(1, kills // 10)), receiving(200) as receiver:
        siege = Siege(folder, receiver, seed)
        await siege.run(kills)
        books = siege.books
        assert books.untrue == []
        assert set(books.ended) >= set(books.accepted)
        runs = (folder / "runs.txt").read_text() if (folder / "runs.txt").exists() else ""
        assert "twice" not in runs
        # Each was told of at least once, as it ended, and twice only where a kill fell in between.
        lives: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for number, request in enumerate(receiver.requests):
            life = sum(before <= number for before in siege.webhooks_before)
            lives[request.job["id"], request.job["status"]].append(life)
        for (job_id, status), of_lives in lives.items():
            if job_id in books.accepted and not books.tries[job_id]:
                assert status == books.ended[job_id], f"{job_id} was told to be {status}"
                assert len(of_lives) == len(set(of_lives)), (
                    f"{job_id} was told of twice in one life: {of_lives}"
                )
        return Counter(books.ended.values())
