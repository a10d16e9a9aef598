"""What a test has ordered for one endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.core.config import WorkerKind
from emulator.errors import ConfigError
from emulator.scenario.fault_effects import FaultEffects
from emulator.scenario.stubs import Stubs

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.core.endpoint import Endpoint
    from emulator.core.events import Event
    from emulator.scenario.faults import Faults
    from emulator.scenario.stubs import Stub


class Scenario:
    """The stubs that answer an endpoint's jobs, and what faults do to them."""

    def __init__(self, endpoint: Endpoint, faults: Faults, emit: Callable[[Event], None]) -> None:
        self.stubs = Stubs()
        self.effects = FaultEffects(endpoint, faults, emit)
        self._endpoint = endpoint
        endpoint.interfere(self.effects)

    def add_stub(self, stub: Stub) -> Stub:
        """Have jobs with an input such as the stub's end as it says.

        :raises ConfigError: someone else answers the jobs.
        """
        config = self._endpoint.config
        who = ""
        if config.image is not None:
            who = "has an image"
        elif config.handler is not None:
            who = "has a handler"
        elif config.worker_kind is WorkerKind.EXTERNAL:
            who = "has external workers"
        if who:
            raise ConfigError(
                f"stubs are for endpoints without a handler: {self._endpoint.id!r} {who},"
                " which answers its jobs"
            )
        return self.stubs.add(stub)

    def clear(self) -> None:
        """Forget the stubs, and what faults have done so far."""
        self.stubs.clear()
        self.effects.clear()
