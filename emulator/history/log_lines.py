"""The line of the log for each thing that happens."""

from __future__ import annotations

import logging
import textwrap
from functools import partial
from typing import TYPE_CHECKING, Any

from emulator.core.events import FaultFired, JobMoved, JobOutput, Notice, WorkerMoved, WorkerWrote
from emulator.core.job import JobStatus
from emulator.core.job_error import explained
from emulator.history.quick_log import quick_log

if TYPE_CHECKING:
    from emulator.core.events import Event

log = logging.getLogger("emulator")

_SDK_LEVELS = {"WARN": logging.WARNING, "ERROR": logging.ERROR}


def log_event(event: Event, *, old_news: bool = False) -> None:
    """Write one line for something that happened; `old_news` was told before, of another worker or
    another try: it is for those who want every detail.
    """
    if isinstance(event, JobMoved):
        if log.isEnabledFor(logging.INFO) or event.job.status is JobStatus.FAILED:
            _log_job(event)
    elif isinstance(event, WorkerMoved):
        if log.isEnabledFor(logging.INFO) or event.lost:
            _log_worker(event, old_news)
    elif isinstance(event, WorkerWrote):
        if log.isEnabledFor(logging.INFO):
            _log_line(event, old_news)
    elif isinstance(event, FaultFired):
        _log_fault(event)
    elif not isinstance(event, JobOutput):
        _log_notice(event)


def _log_job(event: JobMoved) -> None:
    job, before, status = event.job, event.before, event.job.status
    steps = status if before is None else f"{before} → {status}"
    told = f"{event.endpoint_id} job {job.id} {steps}"
    if status is JobStatus.IN_PROGRESS:
        told += f" worker={job.worker_id} delay={job.delay_ms} ms"
    elif job.execution_ms is not None:
        told += f" worker={job.worker_id} execution={job.execution_ms} ms"
    if job.error is not None:
        told += f": {_for_a_person(job.error)}"
    level = logging.WARNING if status is JobStatus.FAILED else logging.INFO
    quick_log(log, level, told, partial(_fields_of_job, event))


def _fields_of_job(event: JobMoved) -> dict[str, Any]:
    job = event.job
    fields: dict[str, Any] = {
        "event": "job", "endpoint": event.endpoint_id, "job_id": job.id,
        "from": event.before, "to": job.status,
        "worker_id": job.worker_id, "delay_ms": job.delay_ms, "execution_ms": job.execution_ms,
        "clock_ms": event.at_ms,
    }  # fmt: skip
    if job.error is not None:
        fields["error"] = job.error
    return fields


def _log_worker(event: WorkerMoved, old_news: bool) -> None:
    fields = {
        "event": "worker", "endpoint": event.endpoint_id, "worker_id": event.worker_id,
        "from": event.before, "to": event.after, "reason": event.reason, "clock_ms": event.at_ms,
    }  # fmt: skip
    after = "gone" if event.after is None else event.after
    steps = after if event.before is None else f"{event.before} → {after}"
    reason = f": {event.reason}" if event.reason else ""
    level = logging.DEBUG if old_news else logging.WARNING if event.lost else logging.INFO
    told = f"{event.endpoint_id} worker {event.worker_id} {steps}{reason}"
    log.log(level, "%s", told, extra={"fields": fields})


def _log_line(event: WorkerWrote, old_news: bool) -> None:
    line = event.line
    fields = {
        "event": "output", "endpoint": event.endpoint_id, "worker_id": event.worker_id,
        "job_id": event.job_id, "stream": line.stream, "clock_ms": event.at_ms,
    }  # fmt: skip
    job = f" job {event.job_id}" if event.job_id else ""
    text = line.text.rstrip().replace("\n", "\n    ")
    log.log(
        logging.DEBUG if old_news else _SDK_LEVELS.get(line.level or "", logging.INFO),
        "%s worker %s%s │ %s",
        event.endpoint_id, event.worker_id, job, text,
        extra={"fields": fields},
    )  # fmt: skip


def _log_fault(event: FaultFired) -> None:
    fields = {
        "event": "fault", "endpoint": event.endpoint_id, "fault_id": event.rule_id,
        "job_id": event.job_id, "worker_id": event.worker_id, "clock_ms": event.at_ms,
    }  # fmt: skip
    whose = (
        f" job {event.job_id}" if event.job_id else f" worker {event.worker_id}" if event.worker_id else ""
    )
    log.info(
        "%s%s: fault %r strikes: %s", event.endpoint_id, whose, event.rule_id, event.effect,
        extra={"fields": fields},
    )  # fmt: skip


def _log_notice(event: Notice) -> None:
    level = logging.WARNING if event.level == "warning" else logging.INFO
    fields = {
        "event": "notice", "endpoint": event.endpoint_id, "job_id": event.job_id,
        "worker_id": event.worker_id, "clock_ms": event.at_ms,
    }  # fmt: skip
    whose = (
        f" job {event.job_id}" if event.job_id else f" worker {event.worker_id}" if event.worker_id else ""
    )
    # What is about the endpoint itself names it.
    told = f"{event.endpoint_id}{whose}: {event.message}" if whose else event.message
    log.log(level, "%s", told, extra={"fields": fields})


def _for_a_person(error: str, limit: int = 2_000) -> str:
    """An error as it reads best: of an exception, the traceback on its own lines."""
    _, traceback = explained(error)
    if traceback:
        error = "\n" + textwrap.indent(traceback, "    ")
    return error if len(error) <= limit else f"{error[:limit]}…"
