"""Crash images: the files of a process that writes, at random moments, cut at random bytes.

Run as a program it is the process that writes: what it writes, commit after commit, follows from a seed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import StateError
from emulator.ledger.database import Batch, Database
from emulator.ledger.records import ChunkRecord, JobRecord, PartRecord, RequestRecord

if TYPE_CHECKING:
    from collections.abc import Iterator


def history(seed: int) -> Iterator[tuple[Batch, str]]:
    """Each commit, and the mark of the state after it."""
    chance = random.Random(seed)
    content: dict[Any, Any] = {}
    number = 0
    while True:
        requests, jobs, chunks, gone = [], [], [], []
        for _ in range(chance.randint(1, 6)):
            number += 1
            body = b'"%b"' % (b"%d." % number * chance.choice([1, 10, 3_000]))
            requests.append(
                RequestRecord(number, "ep", f"id-{number}", body, None, False, False, None, 1, 5, 9, False)
            )
            jobs.append(_job(number, chance))
            if chance.random() < 0.3:
                chunks.append(ChunkRecord(number, number, body))
        there = [key for kind, key in content if kind == "request"]
        for key in chance.sample(there, min(len(there), 5)):
            if chance.random() < 0.6:
                gone.append(key)
            else:
                jobs.append(_job(key, chance))
        parts = [PartRecord("clock", "", b"%d" % number)]
        batch = Batch(
            requests=requests, jobs=jobs, gone_jobs=gone, chunks=chunks, gone_chunks=gone, parts=parts
        )
        for key in gone:
            for kind in ("request", "job", "chunk"):
                content.pop((kind, key), None)
        for kind, records in (("request", requests), ("job", jobs), ("chunk", chunks)):
            content |= {(kind, record.number): record for record in records}
        content["part", 0] = parts[0]
        yield batch, _mark(content.values())


def _job(number: int, chance: random.Random) -> JobRecord:
    output = b"x%d" % number * chance.choice([1, 500, 4_000])
    return JobRecord(number, "COMPLETED", 1, 2, 3, 4, 5, "w", False, chance.randint(0, 1), output, None, 0)


def _mark(records: Any) -> str:
    return sha256(repr(sorted(map(repr, records))).encode()).hexdigest()


def mark_of(path: Path) -> str:
    """The mark of what is in a file.

    :raises StateError: it is refused.
    """
    with closing(Database(path)) as database:
        records: list[Any] = [*database.chunks(), *database.parts()]
        for request, job in database.jobs():
            booleans = {"sync": bool(request.sync), "empty_input": bool(request.empty_input)}
            records.append(request._replace(**booleans, low_priority=bool(request.low_priority)))
            records.append(job._replace(held_elsewhere=bool(job.held_elsewhere)))
        return _mark(records)


def look_at_images(folder: Path, *, images: int, seed: int) -> Counter[str]:
    """Take so many images of a process that writes; returns how many were opened, and how many refused.

    :raises AssertionError: one was opened, and is of a state that never was.
    """
    chance = random.Random(seed)
    path, image = folder / "state.db", folder / "image.db"
    writing = subprocess.Popen(
        [sys.executable, __file__, str(path), str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    states, marks = history(seed), {_mark([])}
    outcomes: Counter[str] = Counter()

    def ask_for(commits: int) -> None:
        marks.update(mark for _, (_, mark) in zip(range(commits), states, strict=False))
        writing.stdin.write(b"\n" * commits)
        writing.stdin.flush()

    def see(commits: int) -> None:
        for _ in range(commits):
            assert writing.stdout.readline()

    try:
        for _ in range(images):
            # After some more commits, and then anywhere in the next.
            whole = chance.randint(1, 25)
            ask_for(whole)
            see(whole)
            ask_for(1)
            for _ in range(chance.randint(0, 100_000)):
                pass
            writing.send_signal(signal.SIGSTOP)
            os.waitpid(writing.pid, os.WUNTRACED)
            for file in folder.glob("image.db*"):
                file.unlink()
            shutil.copyfile(path, image)
            shutil.copyfile(f"{path}-wal", f"{image}-wal")
            writing.send_signal(signal.SIGCONT)
            see(1)
            cut = Path(chance.choice([f"{image}-wal", f"{image}-wal", str(image)]))
            size = cut.stat().st_size
            with cut.open("rb+") as file:
                file.truncate(chance.randint(0, size))
            try:
                mark = mark_of(image)
            except StateError as error:
                assert str(image) in str(error)  # noqa: PT017
                outcomes["refused"] += 1
            else:
                assert mark in marks, "a state that never was"
                outcomes["opened"] += 1
    finally:
        writing.kill()
        writing.wait()
        writing.stdin.close()
        writing.stdout.close()
    return outcomes


def _write(path: Path, seed: int) -> None:
    """A commit for each line that is read, and a line once it is written."""
    database = Database(path)
    for (batch, _), _ in zip(history(seed), sys.stdin, strict=False):
        database.write(batch)
        print(flush=True)


if __name__ == "__main__":
    _write(Path(sys.argv[1]), int(sys.argv[2]))
