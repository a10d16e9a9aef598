"""The state of an emulator that is kept in a file: from the start to the end of its process."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

from emulator.errors import StateError
from emulator.ledger.database import Database, check_place
from emulator.ledger.ledger import Ledger
from emulator.ledger.lock import StateLock
from emulator.ledger.parts import STOP, Parts
from emulator.ledger.records import PartRecord
from emulator.ledger.retelling import Retelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from emulator.clock.clock import Clock
    from emulator.core.endpoint import Endpoint
    from emulator.core.events import Change
    from emulator.ledger.database import Sync
    from emulator.ledger.parts import Served

log = logging.getLogger("emulator.state")


class StateFile:
    """Holds the file, and has all that happens written to it."""

    def __init__(self, path: Path, sync: Sync) -> None:
        self.path = path
        self._sync = sync
        self._lock: StateLock | None = None
        self._database: Database | None = None
        self._parts: Parts | None = None
        #: None before it is opened, and after its end.
        self.ledger: Ledger | None = None
        self._stops = False

    async def open(self, served: Served) -> None:
        """Take the file, and have the emulator go on from what is in it.

        :raises StateError: it cannot be used: another emulator has it, it is damaged, or cannot be written.
        """
        check_place(self.path)
        self._lock = StateLock(self.path)
        collects = gc.isenabled()
        # None of the many objects that are made now is garbage.
        gc.disable()
        try:
            self._database = Database(self.path, self._sync)
            retelling = Retelling(
                self._database.jobs(),
                self._database.chunks(),
                self._database.deliveries(),
                self._database.parts(),
            )
            self._parts = Parts(served)
            self.ledger = Ledger(self._database, self._all_parts)
            served.webhooks.keeper = self.ledger
            await retelling.tell(served, self.ledger)
        except BaseException:
            self.ledger = None
            self._let_go()
            raise
        finally:
            if collects:
                gc.enable()
        self.follow(served.clock)
        for endpoint in served.endpoints.values():
            self.follow(endpoint.clock)
        self.ledger.touch()

    def served_at(self, url: str | None) -> None:
        """Tell others where the emulator is that has the file."""
        if self._lock is not None:
            self._lock.tell(url)

    def follow(self, clock: Clock) -> None:
        """Hear of it when a clock is moved."""

        def on_change() -> None:
            if self._parts is not None and self.ledger is not None:
                self._parts.changed(clock)
                self.ledger.touch()

        clock.on_change = on_change

    def on_event(self, endpoint: Endpoint, event: Change) -> None:
        """Something has happened at an endpoint."""
        if self.ledger is not None:
            self.ledger.on_event(endpoint, event)

    def has_been_reset(self, endpoints: Iterable[Endpoint]) -> None:
        """The emulator has forgotten all; of its jobs and webhooks it has told."""
        if self.ledger is not None:
            self.ledger.touch()
            for endpoint in endpoints:
                self.ledger.recount(endpoint)

    def touch(self) -> None:
        """Something other than a job may have changed."""
        if self.ledger is not None:
            self.ledger.touch()

    async def write(self) -> None:
        """The emulator is about to stop: return when all is on disk, or cannot be."""
        if self.ledger is not None:
            self._stops = True
            self.ledger.touch()
            try:
                await self.ledger.kept()
            except StateError as error:
                log.error("state: %s", error)

    async def close(self) -> None:
        """Write what is left, and let others have the file."""
        ledger, self.ledger = self.ledger, None
        if ledger is not None:
            await ledger.close()
        self._let_go()

    def _all_parts(self) -> Iterator[PartRecord]:
        assert self._parts is not None
        yield from self._parts()
        if self._stops:
            yield PartRecord(STOP, "", b"true")

    def _let_go(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            self._lock.let_go()
            self._lock = None
