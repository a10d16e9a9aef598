"""A job's life as it can be drawn: its attempts, and what struck it on the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from emulator.core.job import TERMINAL, JobStatus
from emulator.core.worker import WorkerState
from emulator.history.journal import EntryFilter, EntryKind

if TYPE_CHECKING:
    from emulator.core.job import Job
    from emulator.history.journal import Entry, Journal

#: The kinds of entries that are marks on a job's life.
_MARKS = (EntryKind.JOB, EntryKind.OUTPUT, EntryKind.FAULT, EntryKind.WEBHOOK)
#: What a mark tells of a value.
_VALUE_LENGTH = 200


@dataclass(slots=True, kw_only=True)
class Attempt:
    """From a job's coming to the queue to its leaving the worker. Times in ms since the epoch."""

    queued_ms: int
    #: When a worker took it; None while it waits, or if none ever did.
    started_ms: int | None = None
    #: When it ended or was lost; None while it has not.
    ended_ms: int | None = None
    worker_id: str | None = None
    #: When the worker that took it was being started, as far as the job waited for that.
    cold_from_ms: int | None = None
    cold_to_ms: int | None = None
    #: The job's state at its end; `LOST` where it went back to the queue, None while it goes on.
    outcome: str | None = None


@dataclass(slots=True, kw_only=True)
class Mark:
    """Something that happened at one moment, or over a while."""

    kind: str
    at_ms: int
    #: Where it took a while.
    from_ms: int | None = None
    text: str
    fault: str | None = None
    failed: bool = False


def timeline(journal: Journal, job_id: str) -> list[str]:
    """What happened to a job, a line each, with the time (ms) since the first."""
    entries = [
        entry
        for entry in journal.find(EntryFilter(job_id=job_id))
        if entry.kind in (EntryKind.JOB, EntryKind.FAULT, EntryKind.WEBHOOK)
    ]
    return [f"{entry.at_ms - entries[0].at_ms:>8} ms  {entry.line()}" for entry in entries]


def drawn(journal: Journal, job: Job) -> dict[str, Any]:
    """The attempts and marks of a job, as far as the journal goes back."""
    entries = [entry for entry in journal.find(EntryFilter(job_id=job.id)) if entry.kind in _MARKS]
    attempts = _attempts(entries) or [_as_it_stands(job)]
    for attempt in attempts:
        _find_cold_start(journal, attempt)
    return {
        "attempts": [asdict(attempt) for attempt in attempts],
        "marks": [asdict(mark) for entry in entries if (mark := _mark(entry)) is not None],
    }


def _attempts(entries: list[Entry]) -> list[Attempt]:
    attempts: list[Attempt] = []
    for entry in entries:
        details = entry.details() if entry.kind is EntryKind.JOB else {}
        moved_to = details.get("to")
        if moved_to is None:
            continue
        if moved_to is JobStatus.IN_QUEUE:
            if details["from"] is JobStatus.IN_PROGRESS and attempts:
                attempts[-1].ended_ms, attempts[-1].outcome = entry.at_ms, "LOST"
            attempts.append(Attempt(queued_ms=entry.at_ms))
        elif not attempts:
            # The journal goes back no further.
            attempts.append(Attempt(queued_ms=entry.at_ms))
        if moved_to is JobStatus.IN_PROGRESS:
            attempts[-1].started_ms, attempts[-1].worker_id = entry.at_ms, entry.worker_id
        elif moved_to in TERMINAL:
            attempts[-1].ended_ms, attempts[-1].outcome = entry.at_ms, moved_to
    return attempts


def _as_it_stands(job: Job) -> Attempt:
    return Attempt(
        queued_ms=job.queued_ms,
        started_ms=job.started_ms,
        ended_ms=job.ended_ms,
        worker_id=job.worker_id,
        outcome=job.status if job.terminal else None,
    )


def _find_cold_start(journal: Journal, attempt: Attempt) -> None:
    """The last start of the worker before it took the job, where the job was waiting already."""
    if attempt.worker_id is None or attempt.started_ms is None:
        return
    began_ms = None
    for entry in journal.find(EntryFilter(kind=EntryKind.POOL)):
        if entry.worker_id != attempt.worker_id or entry.at_ms > attempt.started_ms:
            continue
        reached = entry.details().get("to")
        if reached is WorkerState.INITIALIZING:
            began_ms = entry.at_ms
        elif reached is WorkerState.IDLE and began_ms is not None and entry.at_ms > attempt.queued_ms:
            attempt.cold_from_ms, attempt.cold_to_ms = max(began_ms, attempt.queued_ms), entry.at_ms


def _mark(entry: Entry) -> Mark | None:
    details = entry.details()
    match entry.kind:
        case EntryKind.OUTPUT:
            told = str(details["output"])
            told = told if len(told) < _VALUE_LENGTH else f"{told[:_VALUE_LENGTH]}…"
            return Mark(kind=details["form"], at_ms=entry.at_ms, text=told)
        case EntryKind.FAULT:
            return Mark(kind="fault", at_ms=entry.at_ms, text=entry.line(), fault=entry.fault_id)
        case EntryKind.WEBHOOK:
            return Mark(
                kind="webhook",
                at_ms=entry.at_ms,
                from_ms=details["began_ms"],
                text=entry.line(),
                fault=entry.fault_id,
                failed=details["failure"] is not None,
            )
        case EntryKind.JOB if "message" in details:
            return Mark(kind="notice", at_ms=entry.at_ms, text=details["message"])
        case _:
            return None
