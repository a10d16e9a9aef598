"""What has happened, kept for a while: calls, transitions of jobs, webhook attempts, faults that struck.

Entries are made where things happen; here they are numbered, bounded, found and waited for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

from emulator.clock.wakeup import Wakeup
from emulator.core.events import FaultFired, JobMoved, Notice, WorkerMoved
from emulator.core.job_error import explained
from emulator.history.recent import Recent
from emulator.scenario.matching import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.clock.clock import Clock
    from emulator.core.events import Event

#: Of each kind, so that a busy worker's calls do not push out the client's.
ENTRIES_KEPT = 1_000
_BYTES_KEPT = 8 * 1024 * 1024


class EntryKind(StrEnum):
    """What an entry is about."""

    API = "api"
    """A client's call."""
    WORKER = "worker"
    """A worker's call (wire.md 7); pings and polls that brought nothing are left out."""
    JOB = "job"
    """A job's transition, or a notice about it."""
    WEBHOOK = "webhook"
    """One attempt to call a webhook."""
    FAULT = "fault"
    """An ordered fault that struck."""
    POOL = "pool"
    """A worker came, changed its state or went."""


class Entry(ABC):
    """One thing that happened. It must not change any more, nor hold on to what does."""

    __slots__ = ("at_ms", "endpoint_id", "fault_id", "number")

    kind: EntryKind

    def __init__(self, endpoint_id: str, at_ms: int, fault_id: str | None = None) -> None:
        #: In the order in which all entries came; given by the journal.
        self.number = 0
        #: On the endpoint's clock, ms since the epoch.
        self.at_ms = at_ms
        self.endpoint_id = endpoint_id
        #: The fault that was ordered and has struck here.
        self.fault_id = fault_id

    @property
    @abstractmethod
    def job_id(self) -> str | None:
        """The job it is about."""

    @property
    def worker_id(self) -> str | None:
        """The worker it is about."""
        return None

    @property
    def size(self) -> int:
        """About how many bytes of memory it holds."""
        return 200

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """What is particular to its kind, as JSON; secrets are masked."""

    @abstractmethod
    def line(self) -> str:
        """What happened, in one line for a person."""

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {**self.outline(), **self.details()}

    def outline(self) -> dict[str, Any]:
        """What all kinds have, as JSON."""
        return {
            "number": self.number,
            "kind": self.kind,
            "at_ms": self.at_ms,
            "endpoint": self.endpoint_id,
            "job_id": self.job_id,
            "worker_id": self.worker_id,
            "fault": self.fault_id,
            "text": self.line(),
        }


class _EventEntry(Entry):
    """An entry that is made from an event of the core."""

    __slots__ = ("_details", "_job_id", "_line", "_worker_id", "kind")

    def __init__(
        self,
        kind: EntryKind,
        event: Event,
        line: str,
        details: dict[str, Any],
        *,
        job_id: str | None = None,
        worker_id: str | None = None,
        fault_id: str | None = None,
    ) -> None:
        super().__init__(event.endpoint_id, event.at_ms, fault_id)
        self.kind = kind
        self._line = line
        self._details = details
        self._job_id = job_id
        self._worker_id = worker_id

    @property
    def job_id(self) -> str | None:
        return self._job_id

    @property
    def worker_id(self) -> str | None:
        return self._worker_id

    def details(self) -> dict[str, Any]:
        return self._details

    def line(self) -> str:
        return self._line


class _Transition(Entry):
    """A job changed its state: what /status would have said then."""

    __slots__ = (
        "_before",
        "_delay_ms",
        "_error",
        "_execution_ms",
        "_job_id",
        "_retries",
        "_to",
        "_worker_id",
    )

    kind = EntryKind.JOB

    def __init__(self, event: JobMoved) -> None:
        super().__init__(event.endpoint_id, event.at_ms)
        job = event.job
        self._before, self._to = event.before, job.status
        self._job_id, self._worker_id = job.id, job.worker_id
        self._delay_ms, self._execution_ms = job.delay_ms, job.execution_ms
        self._error, self._retries = job.error, job.retries

    @property
    def job_id(self) -> str | None:
        return self._job_id

    @property
    def worker_id(self) -> str | None:
        return self._worker_id

    @property
    def size(self) -> int:
        return 300 + len(self._error or "")

    def details(self) -> dict[str, Any]:
        return {
            "from": self._before,
            "to": self._to,
            "delay_ms": self._delay_ms,
            "execution_ms": self._execution_ms,
            "error": self._error,
            "retries": self._retries,
        }

    def line(self) -> str:
        parts = [self._to if self._before is None else f"{self._before} → {self._to}"]
        if self._worker_id is not None:
            parts.append(f"worker {self._worker_id}")
        if self._execution_ms is not None:
            parts.append(f"executed for {self._execution_ms} ms")
        elif self._delay_ms is not None:
            parts.append(f"waited {self._delay_ms} ms")
        if self._error is not None:
            headline, _ = explained(self._error)
            parts.append(headline if len(headline) < 500 else f"{headline[:500]}…")
        return ", ".join(parts)


@dataclass(slots=True, frozen=True, kw_only=True)
class EntryFilter:
    """Which entries are wanted; None is any."""

    kind: EntryKind | None = None
    endpoint_id: str | None = None
    job_id: str | None = None
    #: Only entries after this number.
    since: int = 0
    #: What the entry, as JSON, must be like (see `matching`).
    match: object = None

    def takes(self, entry: Entry) -> bool:
        """Whether the entry is wanted."""
        return (
            entry.number > self.since
            and self.kind in (None, entry.kind)
            and self.endpoint_id in (None, entry.endpoint_id)
            and (self.job_id is None or self.job_id == entry.job_id)
            and (self.match is None or matches(self.match, entry.as_json()))
        )


class Journal:
    """The newest `limit` entries of each kind, and at most 8 MiB of each; a limit of 0 keeps nothing."""

    def __init__(self, limit: int = ENTRIES_KEPT) -> None:
        self.limit = limit
        self._recent = {kind: Recent[Entry](limit, _BYTES_KEPT) for kind in EntryKind}
        self._last_number = 0
        self._changed = Wakeup()

    def add(self, entry: Entry) -> None:
        """Keep an entry."""
        if not self.limit:
            return
        self._last_number += 1
        entry.number = self._last_number
        self._recent[entry.kind].add(entry, entry.size)
        self._changed.notify()

    def on_event(self, event: Event) -> None:
        """Keep what the core tells of; what workers write is kept elsewhere."""
        if not self.limit:
            return
        if isinstance(event, JobMoved):
            self.add(_Transition(event))
        elif isinstance(event, FaultFired):
            self.add(
                _EventEntry(
                    EntryKind.FAULT, event, f"fault {event.rule_id!r}: {event.effect}",
                    {"effect": event.effect},
                    job_id=event.job_id, worker_id=event.worker_id, fault_id=event.rule_id,
                )
            )  # fmt: skip
        elif isinstance(event, Notice):
            self.add(
                _EventEntry(
                    EntryKind.JOB if event.job_id else EntryKind.POOL, event, event.message,
                    {"level": event.level, "message": event.message},
                    job_id=event.job_id, worker_id=event.worker_id,
                )
            )  # fmt: skip
        elif isinstance(event, WorkerMoved):
            after = "gone" if event.after is None else event.after
            steps = after if event.before is None else f"{event.before} → {after}"
            line = f"worker {event.worker_id} {steps}" + (f": {event.reason}" if event.reason else "")
            details = {"from": event.before, "to": event.after, "reason": event.reason, "lost": event.lost}
            self.add(_EventEntry(EntryKind.POOL, event, line, details, worker_id=event.worker_id))

    def find(self, query: EntryFilter, limit: int | None = None) -> list[Entry]:
        """The entries that are wanted, oldest first; of too many the newest `limit`."""
        found = (entry for entry in self._newest_first(query.kind) if query.takes(entry))
        return list(islice(found, limit))[::-1]

    async def wait(self, query: EntryFilter, count: int, clock: Clock) -> None:
        """Wait until there are `count` entries that are wanted, for as long as it takes."""
        with clock.waiting():
            while len(self.find(query, count)) < count:
                await self._changed.wait(clock, None, "wait for the journal")

    def clear(self, endpoint_id: str | None = None) -> int:
        """Forget all entries, or those of one endpoint; returns how many."""
        return sum(
            kept.forget(lambda entry: endpoint_id in (None, entry.endpoint_id))
            for kept in self._recent.values()
        )

    def _newest_first(self, kind: EntryKind | None) -> Iterator[Entry]:
        if kind is not None:
            return reversed(self._recent[kind])
        entries = [entry for kept in self._recent.values() for entry in kept]
        return iter(sorted(entries, key=lambda entry: -entry.number))


def timeline(journal: Journal, job_id: str) -> list[str]:
    """What happened to a job, a line each, with the time (ms) since the first."""
    entries = [
        entry
        for entry in journal.find(EntryFilter(job_id=job_id))
        if entry.kind in (EntryKind.JOB, EntryKind.FAULT, EntryKind.WEBHOOK)
    ]
    return [f"{entry.at_ms - entries[0].at_ms:>8} ms  {entry.line()}" for entry in entries]
