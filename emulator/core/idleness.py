"""For how long a worker has had nothing to do (wire.md 6, `idleTimeout`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.core.worker import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from emulator.clock.clock import Clock
    from emulator.core.config import EndpointConfig
    from emulator.core.worker import Worker


class Idleness:
    """Calls when a worker has been idle for the endpoint's idle timeout."""

    def __init__(self, config: EndpointConfig, clock: Clock, on_idle: Callable[[Worker], None]) -> None:
        self._config = config
        self._clock = clock
        self._call = on_idle

    def configure(self, config: EndpointConfig, workers: Iterable[Worker]) -> None:
        """Go by other settings from now on; the `workers` have been idle for as long as they have been."""
        self._config = config
        for worker in workers:
            if worker.idle_timer is not None:
                self._clock.cancel(worker.idle_timer)
                self._arm(worker)

    def watch(self, worker: Worker) -> None:
        """The worker has nothing to do from now on. One timer stays armed over many short jobs."""
        if worker.external:
            return
        worker.idle_since_ms = self._clock.now_ms()
        if worker.idle_timer is None:
            self._arm(worker)

    def _due_ms(self, worker: Worker) -> int:
        return worker.idle_since_ms + int(self._config.idle_timeout_s * 1000)

    def _arm(self, worker: Worker) -> None:
        worker.idle_timer = self._clock.call_at(self._due_ms(worker), "idle timeout", self._on_due, worker)

    def _on_due(self, worker: Worker) -> None:
        worker.idle_timer = None
        if worker.state is not WorkerState.IDLE:
            return
        if self._clock.now_ms() < self._due_ms(worker):
            self._arm(worker)
        else:
            self._call(worker)
