"""What the control API says and takes of the journal, the webhooks and their sinks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, JsonValue

from emulator.api.control.bodies import ControlForm
from emulator.history.journal import EntryKind

_HOUR_MS = 3_600_000


class ReceivedView(ControlForm):
    """A call that a sink received."""

    number: int
    at_ms: int
    method: str
    headers: dict[str, str]
    body: JsonValue
    status: int


class SinkBrief(ControlForm):
    """A webhook receiver, and how often it was called."""

    name: str
    url: str
    count: int


class SinksView(ControlForm):
    """The receivers there are."""

    sinks: list[SinkBrief]


class SinkView(ControlForm):
    """A webhook receiver: where it is, what came, and what it will answer."""

    name: str
    url: str
    count: int
    deliveries: list[ReceivedView]
    answers: list[dict[str, Any]]


class CountWait(ControlForm):
    """For how many of them to wait, and for how many real ms."""

    count: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    timeout_ms: Annotated[int, Field(ge=0, le=_HOUR_MS)] = 5_000


class JournalView(ControlForm):
    """Entries of the journal, oldest first."""

    entries: list[dict[str, Any]]


class JournalQuery(ControlForm):
    """Which entries are wanted (docs/testing.md)."""

    kind: EntryKind | None = None
    endpoint: str | None = None
    job: str | None = None
    since: int = 0
    match: Any = None
    limit: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


class JournalWait(JournalQuery, CountWait):
    """For how many of which entries to wait."""


class JournalCount(ControlForm):
    """How many there are."""

    count: int


class AttemptView(ControlForm):
    """One call of a webhook."""

    began_ms: int
    at_ms: int
    status: int | None
    failure: str | None
    #: How the answer's body begins.
    answer: str


class Redelivery(ControlForm):
    """Where a webhook is to be sent once more; without a URL to where it went."""

    url: str | None = None


class DeliveryView(ControlForm):
    """A webhook's delivery."""

    id: int
    endpoint: str
    job_id: str
    url: str
    delivered: bool
    #: No attempt will follow.
    over: bool
    attempts: list[AttemptView]


class DeliveryDetail(DeliveryView):
    """A webhook's delivery, with what was sent."""

    body: JsonValue


class DeliveriesView(ControlForm):
    """Deliveries, oldest first."""

    webhooks: list[DeliveryView]
