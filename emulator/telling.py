"""Who hears of what happens: the one place that every event of every endpoint goes through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from emulator.core.events import ChunksRead, FaultFired, JobForgotten, JobMoved, WorkerMoved, WorkerWrote
from emulator.core.job import JobStatus
from emulator.history.log_lines import log_event
from emulator.masking import without

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from emulator.api.auth import Access
    from emulator.core.endpoint import Endpoint
    from emulator.core.events import Change, Event
    from emulator.history.journal import Journal
    from emulator.history.measures import Measures
    from emulator.history.queue_watch import QueueWatch
    from emulator.history.worker_logs import WorkerLogs
    from emulator.ledger.state_file import StateFile
    from emulator.scenario.scenario import Scenario
    from emulator.webhooks.deliveries import Webhooks

_FOR_STATE_ALONE = (ChunksRead, JobForgotten)


@dataclass(slots=True, kw_only=True)
class Telling:
    """Tells the state file, webhooks, journal, charts and log what happens, and whoever uses the library."""

    access: Access
    logs: WorkerLogs
    journal: Journal
    webhooks: Webhooks
    queue_watch: QueueWatch
    #: None where the state is not kept.
    state: StateFile | None
    #: Somebody else's; it does not raise.
    listener: Callable[[Event], None] | None
    #: What is ordered for each endpoint.
    scenarios: Mapping[Endpoint, Scenario]
    #: The figures of each.
    measures: Mapping[Endpoint, Measures]

    def on_event(self, endpoint: Endpoint, event: Change) -> None:
        """Something has happened in an endpoint."""
        if self.state is not None:
            self._keep_state_of(self.state, endpoint, event)
        old_news = False
        if isinstance(event, JobMoved):
            # Each job has three of these: what follows is most of what is done for it beside its life.
            if event.job.webhook is not None:
                self.webhooks.on_job_moved(event.job, endpoint)
            if event.job.status is JobStatus.IN_QUEUE:
                self.queue_watch.job_came()
        elif isinstance(event, WorkerMoved):
            old_news = endpoint.pool.is_old_news(event)
        elif isinstance(event, WorkerWrote):
            self._tell_line(endpoint, event)
            return
        elif isinstance(event, _FOR_STATE_ALONE):
            return
        self.logs.notify()
        self.journal.on_event(event)
        if (measures := self.measures.get(endpoint)) is not None:
            measures.on_event(event)
        endpoint.clock.nudge()
        log_event(event, old_news=old_news)
        if self.listener is not None:
            self.listener(event)

    def _tell_line(self, endpoint: Endpoint, event: WorkerWrote) -> None:
        if self.access.checks_keys:
            # Its environment has a key, and what prints an environment is not rare.
            told = without(event.line.text, self.access.keys)
            event = replace(event, line=replace(event.line, text=told))
        self.logs.add(event)
        endpoint.clock.nudge()
        log_event(event, old_news=endpoint.pool.is_old_news(event))
        if self.listener is not None:
            self.listener(event)

    def _keep_state_of(self, state: StateFile, endpoint: Endpoint, event: Change) -> None:
        state.on_event(endpoint, event)
        uses_a_stub = isinstance(event, JobMoved) and len(self.scenarios[endpoint].stubs)
        if uses_a_stub or isinstance(event, FaultFired):
            # They count how often they were used.
            state.touch()
