"""What has happened, kept for a while: calls, transitions of jobs, webhook attempts, faults that struck.

Entries are made where things happen; here they are numbered, bounded, found and waited for.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from emulator.clock.slices import in_slices
from emulator.clock.wakeup import Wakeup
from emulator.core.events import FaultFired, JobMoved, JobOutput, Notice, WorkerMoved
from emulator.core.job_error import explained
from emulator.history.job_brief import JobBrief, seen_of
from emulator.history.recent import Recent
from emulator.scenario.matching import matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.clock.clock import Clock
    from emulator.core.events import Event
    from emulator.history.event_feed import EventFeed

#: Of each kind, so that a busy worker's calls do not push out the client's.
ENTRIES_KEPT = 1_000
_BYTES_KEPT = 8 * 1024 * 1024
#: Of a chunk or of progress, bytes.
OUTPUT_KEPT = 64 * 1024


class EntryKind(StrEnum):
    """What an entry is about."""

    API = "api"
    """A client's call."""
    WORKER = "worker"
    """A worker's call (wire.md 7); pings and polls that brought nothing are left out."""
    JOB = "job"
    """A job's transition, or a notice about it."""
    OUTPUT = "output"
    """A chunk of a job's stream, or its progress."""
    WEBHOOK = "webhook"
    """One attempt to call a webhook."""
    FAULT = "fault"
    """An ordered fault that struck."""
    POOL = "pool"
    """A worker came, changed its state or went."""


class Entry(ABC):
    """One thing that happened. It must not change any more, nor hold on to what does."""

    __slots__ = ("at_ms", "endpoint_id", "event_number", "fault_id", "number", "size")

    kind: EntryKind

    def __init__(self, endpoint_id: str, at_ms: int, size: int, fault_id: str | None = None) -> None:
        #: In the order in which all entries came; given by the journal.
        self.number = 0
        #: As `number`, in the feed of all events.
        self.event_number = 0
        #: On the endpoint's clock, ms since the epoch.
        self.at_ms = at_ms
        self.endpoint_id = endpoint_id
        #: The fault that was ordered and has struck here.
        self.fault_id = fault_id
        #: About how many bytes of memory it holds.
        self.size = size

    @property
    @abstractmethod
    def job_id(self) -> str | None:
        """The job it is about."""

    @property
    def worker_id(self) -> str | None:
        """The worker it is about."""
        return None

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """What is particular to its kind, as JSON; secrets are masked."""

    @abstractmethod
    def line(self) -> str:
        """What happened, in one line for a person."""

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {**self.outline(), **self.details()}

    def news(self) -> dict[str, Any]:
        """What of it is told to those who follow events, as JSON: nothing large."""
        return self.as_json()

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
        super().__init__(event.endpoint_id, event.at_ms, 300 + 2 * len(line), fault_id)
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

    __slots__ = ("_before", "_seen")

    kind = EntryKind.JOB

    def __init__(self, event: JobMoved) -> None:
        # Every job has three of these, and few are ever read: what it was is taken down, and no more.
        job = event.job
        self.number = self.event_number = 0
        self.at_ms = event.at_ms
        self.endpoint_id = event.endpoint_id
        self.fault_id = None
        self.size = 500 if job.error is None else 500 + len(job.error)
        self._before = event.before
        self._seen = seen_of(job)

    @property
    def brief(self) -> JobBrief:
        """The job as it was."""
        return JobBrief(self.endpoint_id, self._seen)

    @property
    def job_id(self) -> str | None:
        return self._seen[0]

    @property
    def worker_id(self) -> str | None:
        return self.brief.worker_id

    def details(self) -> dict[str, Any]:
        brief = self.brief
        return {
            "from": self._before,
            "to": brief.status,
            "delay_ms": brief.delay_ms,
            "execution_ms": brief.execution_ms,
            "error": brief.error,
            "retries": brief.retries,
        }

    def news(self) -> dict[str, Any]:
        return {**self.outline(), "from": self._before, "job": self.brief.as_json()}

    def line(self) -> str:
        brief = self.brief
        parts = [brief.status if self._before is None else f"{self._before} → {brief.status}"]
        if brief.worker_id is not None:
            parts.append(f"worker {brief.worker_id}")
        if brief.execution_ms is not None:
            parts.append(f"executed for {brief.execution_ms} ms")
        elif brief.delay_ms is not None:
            parts.append(f"waited {brief.delay_ms} ms")
        if brief.error is not None:
            headline, _ = explained(brief.error)
            parts.append(headline if len(headline) < 500 else f"{headline[:500]}…")
        return ", ".join(parts)


class _Output(Entry):
    """A chunk of a job's stream, or its progress."""

    __slots__ = ("_form", "_job_id", "_size", "_text", "_worker_id")

    kind = EntryKind.OUTPUT

    def __init__(self, event: JobOutput) -> None:
        super().__init__(event.endpoint_id, event.at_ms, 300 + min(len(event.output_json), OUTPUT_KEPT))
        self._form = event.form
        self._job_id, self._worker_id = event.job_id, event.worker_id
        self._size = len(event.output_json)
        self._text = event.output_json if self._size <= OUTPUT_KEPT else event.output_json[:OUTPUT_KEPT]

    @property
    def job_id(self) -> str | None:
        return self._job_id

    @property
    def worker_id(self) -> str | None:
        return self._worker_id

    def details(self) -> dict[str, Any]:
        if self._size > len(self._text):
            cut = self._text.decode("utf-8", "ignore")
            return {"form": self._form, "output": cut, "size": self._size, "truncated": True}
        return {"form": self._form, "output": json.loads(self._text), "size": self._size}

    def line(self) -> str:
        return f"{self._form}, {self._size} bytes"


@dataclass(slots=True, frozen=True, kw_only=True)
class EntryFilter:
    """Which entries are wanted; None is any."""

    kind: EntryKind | None = None
    endpoint_id: str | None = None
    job_id: str | None = None
    #: Only entries after this number.
    since: int = 0
    #: And none after this one.
    until: int | None = None
    #: What the entry, as JSON, must be like (see `matching`).
    match: object = None

    def takes(self, entry: Entry) -> bool:
        """Whether the entry is wanted."""
        return self._may_take(entry) and (self.match is None or matches(self.match, entry.as_json()))

    def takes_seen(self, seen: _Seen) -> bool:
        """As `takes`, for an entry that others look at too."""
        return self._may_take(seen.entry) and (self.match is None or matches(self.match, seen.as_json))

    def _may_take(self, entry: Entry) -> bool:
        return (
            entry.number > self.since
            and (self.until is None or entry.number <= self.until)
            and self.kind in (None, entry.kind)
            and self.endpoint_id in (None, entry.endpoint_id)
            and (self.job_id is None or self.job_id == entry.job_id)
        )


class _Seen:
    """A new entry that several look at; it is written as JSON once, if at all."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    @cached_property
    def as_json(self) -> dict[str, Any]:
        return self.entry.as_json()


class _Waiter:
    """Somebody who waits until there have been `count` entries; so many are `missing`."""

    def __init__(self, query: EntryFilter, count: int, missing: int) -> None:
        self.query = query
        self.count = count
        self.missing = missing
        self.changed = Wakeup()

    def look_at(self, seen: _Seen) -> None:
        if self.missing > 0 and self.query.takes_seen(seen):
            self.found(1)

    def found(self, count: int) -> None:
        self.missing -= count
        if self.missing <= 0:
            self.changed.notify()


class Journal:
    """The newest `limit` entries of each kind, and at most 8 MiB of each; a limit of 0 keeps nothing."""

    def __init__(self, limit: int = ENTRIES_KEPT, feed: EventFeed | None = None) -> None:
        self.limit = limit
        self._feed = feed
        self._recent = {kind: Recent[Entry](limit, _BYTES_KEPT) for kind in EntryKind}
        self._last_number = 0
        #: As a dict: in order of arrival, and any can leave at once.
        self._waiters: dict[_Waiter, None] = {}

    def add(self, entry: Entry) -> None:
        """Keep an entry."""
        if not self.limit:
            return
        if self._feed is not None:
            self._feed.keep(entry)
        self._last_number += 1
        entry.number = self._last_number
        self._recent[entry.kind].add(entry)
        if self._waiters:
            seen = _Seen(entry)
            for waiter in self._waiters:
                waiter.look_at(seen)

    def on_event(self, event: Event) -> None:
        """Keep what the core tells of; what workers write is kept elsewhere."""
        if not self.limit:
            return
        if isinstance(event, JobMoved):
            self.add(_Transition(event))
        elif isinstance(event, JobOutput):
            self.add(_Output(event))
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

    async def search(self, query: EntryFilter, limit: int | None = None) -> list[Entry]:
        """As `find`, while others are served: there may be much to look at."""
        found: list[Entry] = []
        async for entry in in_slices(list(self._newest_first(query.kind))):
            if limit is not None and len(found) >= limit:
                break
            if query.takes(entry):
                found.append(entry)
        return found[::-1]

    async def wait(self, query: EntryFilter, count: int, clock: Clock) -> None:
        """Wait until there have been `count` entries that are wanted, for as long as it takes.

        Of each entry that comes it is found out once whether it is one.
        """
        waiter = _Waiter(query, count, count)
        self._waiters[waiter] = None
        try:
            waiter.found(len(await self.search(replace(query, until=self._last_number), count)))
            with clock.waiting():
                while waiter.missing > 0:
                    await waiter.changed.wait(clock, None, "wait for the journal")
        finally:
            del self._waiters[waiter]

    def clear(self, endpoint_id: str | None = None) -> list[Entry]:
        """Forget all entries, or those of one endpoint; returns them."""
        forgotten: list[Entry] = []
        for kept in self._recent.values():
            forgotten += kept.forget(lambda entry: endpoint_id in (None, entry.endpoint_id))
        for waiter in self._waiters:
            waiter.missing = waiter.count - (0 if endpoint_id is None else len(self.find(waiter.query)))
        return forgotten

    def _newest_first(self, kind: EntryKind | None) -> Iterator[Entry]:
        if kind is not None:
            return reversed(self._recent[kind])
        entries = [entry for kept in self._recent.values() for entry in kept]
        return iter(sorted(entries, key=lambda entry: -entry.number))
