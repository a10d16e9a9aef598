"""A state as lines of JSON, to be looked at, prepared, and carried to another emulator (docs/state.md)."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from emulator.clock.clock import LATEST_MS
from emulator.core.job import TERMINAL, JobStatus
from emulator.core.job_ids import JobIds
from emulator.core.json_text import NotJSON, encode
from emulator.core.policy import EXECUTION_TIMEOUT_MAX_MS, TTL_DEFAULT_MS, ExecutionPolicy
from emulator.core.request import JobRequest
from emulator.errors import EmulatorError, StateError
from emulator.ledger.parts import CLOCK, ENDPOINT, FAULTS, STOP, STUBS
from emulator.ledger.records import (
    COUNTS,
    ChunkRecord,
    DeliveryRecord,
    JobRecord,
    PartRecord,
    RequestRecord,
)
from emulator.masking import MASK, masked_url, masked_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Of the lines' form; a later one is refused.
FORMAT = 1
_DEFAULT_POLICY = ExecutionPolicy(execution_timeout_ms=600_000, ttl_ms=TTL_DEFAULT_MS)
_PARTS = (CLOCK, ENDPOINT, FAULTS, STUBS, COUNTS)


@dataclass(slots=True)
class State:
    """Everything that is kept of an emulator."""

    #: The time of its clock, ms since the epoch.
    now_ms: int
    jobs: list[tuple[RequestRecord, JobRecord]] = field(default_factory=list)
    chunks: list[ChunkRecord] = field(default_factory=list)
    deliveries: list[DeliveryRecord] = field(default_factory=list)
    parts: list[PartRecord] = field(default_factory=list)

    def part(self, kind: str, name: str) -> Any:
        """The value of a part; None when there is none."""
        found = next((part for part in self.parts if (part.kind, part.name) == (kind, name)), None)
        return None if found is None else json.loads(found.value)

    def at(self, now_ms: int) -> State:
        """The same, as if it were this time now: all that was to come comes as long after it."""
        by = now_ms - self.now_ms

        def later(instant_ms: int | None) -> int | None:
            return None if instant_ms is None else instant_ms + by

        return State(
            now_ms,
            [
                (
                    request._replace(submitted_ms=request.submitted_ms + by),
                    job._replace(
                        queued_ms=job.queued_ms + by,
                        started_ms=later(job.started_ms),
                        ended_ms=later(job.ended_ms),
                    ),
                )
                for request, job in self.jobs
            ],
            self.chunks,
            [each._replace(due_ms=each.due_ms + by if each.due_ms else 0) for each in self.deliveries],
            [part for part in self.parts if part.kind != CLOCK],
        )

    def of_endpoint(self, endpoint_id: str) -> State:
        """Its only endpoint's jobs, webhooks and stubs, as those of another.

        :raises StateError: it has several.
        """
        names = {request.endpoint for request, _ in self.jobs}
        names |= {part.name for part in self.parts if part.kind in (STUBS, COUNTS)}
        if len(names) > 1:
            raise StateError(f"the state has several endpoints ({', '.join(sorted(names))}): one is needed")
        return State(
            self.now_ms,
            [(request._replace(endpoint=endpoint_id), job) for request, job in self.jobs],
            self.chunks,
            [each._replace(endpoint=endpoint_id) for each in self.deliveries],
            [part._replace(name=endpoint_id) for part in self.parts if part.kind in (STUBS, COUNTS)],
        )

    @property
    def runs_code(self) -> list[str]:
        """Its endpoints that say what workers run."""
        return [
            part.name
            for part in self.parts
            if part.kind == ENDPOINT
            and any(
                json.loads(part.value)["settings"].get(name)
                for name in ("handler", "image", "command", "workdir", "python", "worker_env", "worker_args")
            )
        ]


def lines_of(state: State, *, with_secrets: bool) -> Iterator[bytes]:
    """The lines, each with its newline; without secrets unless they are asked for."""
    yield _line({"kind": "state", "format": FORMAT, "now_ms": state.now_ms})
    for part in state.parts:
        if part.kind in _PARTS:
            value = json.loads(part.value)
            if part.kind == ENDPOINT and not with_secrets:
                value["settings"]["worker_env"] = dict.fromkeys(value["settings"]["worker_env"], MASK)
            yield _line({"kind": part.kind, "name": part.name, "value": value})
    chunks: defaultdict[int, list[Any]] = defaultdict(list)
    for chunk in state.chunks:
        chunks[chunk.job].append(json.loads(chunk.output))
    for request, job in state.jobs:
        body = json.loads(request.body)
        shown = {
            "kind": "job",
            "endpoint": request.endpoint,
            "id": request.job_id,
            "request": body if with_secrets else masked_value(body),
            "sync": bool(request.sync),
            "again_of": request.again_of,
            "submitted_ms": request.submitted_ms,
            "execution_timeout_ms": request.execution_timeout_ms,
            "ttl_ms": request.ttl_ms,
            "low_priority": bool(request.low_priority),
            "status": job.status,
            "queued_ms": job.queued_ms,
            "started_ms": job.started_ms,
            "ended_ms": job.ended_ms,
            "delay_ms": job.delay_ms,
            "execution_ms": job.execution_ms,
            "worker_id": job.worker_id,
            "held_elsewhere": bool(job.held_elsewhere),
            "retries": job.retries,
            "place": job.place,
            "error": None if job.error is None else job.error.decode("utf-8", "replace"),
            "chunks": chunks.get(request.number, []),
        }
        if job.output is not None:
            shown["output"] = json.loads(job.output)
        yield _line(shown)
    for delivery in state.deliveries:
        body = json.loads(delivery.body)
        yield _line(
            {
                "kind": "webhook",
                "endpoint": delivery.endpoint,
                "job_id": delivery.job_id,
                "url": delivery.url if with_secrets else masked_url(delivery.url),
                "body": body if with_secrets else masked_value(body),
                "attempts": json.loads(delivery.attempts),
                "next_attempt": delivery.next_attempt,
                "due_ms": delivery.due_ms,
            }
        )


def state_of_lines(lines: Iterable[bytes | str], now_ms: int) -> State:
    """The state that lines say. Of a job its endpoint and its request are enough.

    :param now_ms: the time, where the lines have none.
    :raises StateError: they say none; the message names the line.
    """
    state = State(now_ms)
    ids = JobIds()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise TypeError("it is no object")
            _read(fields, state, ids)
        except (ValueError, KeyError, TypeError, RecursionError, NotJSON, EmulatorError) as error:
            reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise StateError(f"line {number} is not one of a state: {reason}") from error
    return state


def _read(fields: dict[str, Any], state: State, ids: JobIds) -> None:
    kind = fields.pop("kind")
    if kind == "state":
        if fields["format"] > FORMAT:
            raise StateError(f"its form is that of a later runpod-emulator ({fields['format']})")
        state.now_ms = _number(fields, "now_ms", 0)
    elif kind == "job":
        _read_job(fields, state, ids)
    elif kind == "webhook":
        state.deliveries.append(
            DeliveryRecord(
                len(state.deliveries) + 1,
                _text(fields, "endpoint"),
                _text(fields, "job_id"),
                _text(fields, "url"),
                encode(fields["body"]),
                encode(fields.get("attempts", [])),
                _number(fields, "next_attempt", 1),
                _number(fields, "due_ms", 0),
            )
        )
    elif kind in _PARTS:
        state.parts.append(PartRecord(kind, str(fields.get("name", "")), encode(fields["value"])))
    elif kind != STOP:
        raise ValueError(f"there is no kind {kind!r}")


def _read_job(fields: dict[str, Any], state: State, ids: JobIds) -> None:
    number = len(state.jobs) + 1
    sync = bool(fields.get("sync"))
    # What it asks for is checked as if it came now.
    asked = JobRequest.of(fields["request"], _DEFAULT_POLICY, sync=sync)
    status = JobStatus(fields.get("status", JobStatus.IN_QUEUE))
    if status is JobStatus.TIMED_OUT:
        raise ValueError("a job that is TIMED_OUT is found no more")
    submitted_ms = _number(fields, "submitted_ms", state.now_ms)
    error = fields.get("error")
    timeout_ms = _number(fields, "execution_timeout_ms", asked.policy.execution_timeout_ms)
    ttl_ms = _number(fields, "ttl_ms", asked.policy.ttl_ms)
    if not 0 < min(timeout_ms, ttl_ms) <= max(timeout_ms, ttl_ms) <= 100 * EXECUTION_TIMEOUT_MAX_MS:
        raise ValueError("execution_timeout_ms and ttl_ms must be numbers of ms")
    state.jobs.append(
        (
            RequestRecord(
                number,
                _text(fields, "endpoint"),
                _text(fields, "id") if fields.get("id") else ids.new(sync=sync),
                asked.body,
                asked.webhook,
                sync,
                asked.empty_input,
                None if fields.get("again_of") is None else _text(fields, "again_of"),
                submitted_ms,
                timeout_ms,
                ttl_ms,
                bool(fields.get("low_priority", asked.policy.low_priority)),
            ),
            JobRecord(
                number,
                status.value,
                _number(fields, "queued_ms", submitted_ms),
                _instant(fields, "started_ms", submitted_ms, wanted=status is JobStatus.IN_PROGRESS),
                _instant(
                    fields,
                    "ended_ms",
                    submitted_ms,
                    wanted=status in TERMINAL,
                ),
                _instant(fields, "delay_ms", 0, wanted=False),
                _instant(fields, "execution_ms", 0, wanted=False),
                None if fields.get("worker_id") is None else _text(fields, "worker_id"),
                bool(fields.get("held_elsewhere")),
                _number(fields, "retries", 0),
                encode(fields["output"]) if "output" in fields else None,
                None if error is None else str(error).encode("utf-8", "surrogatepass"),
                _number(fields, "place", number) if status is JobStatus.IN_QUEUE else 0,
            ),
        )
    )
    for chunk in fields.get("chunks", ()):
        state.chunks.append(ChunkRecord(len(state.chunks) + 1, number, encode(chunk)))


def _instant(fields: dict[str, Any], name: str, otherwise: int, *, wanted: bool) -> int | None:
    if fields.get(name) is None:
        return otherwise if wanted else None
    return _number(fields, name, 0)


def _number(fields: dict[str, Any], name: str, otherwise: int) -> int:
    value = fields.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or not -LATEST_MS <= value <= LATEST_MS:
        raise ValueError(f"{name} must be a whole number up to {LATEST_MS}")
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{name} must be a text")
    return value


def _line(fields: dict[str, Any]) -> bytes:
    return encode(fields) + b"\n"
