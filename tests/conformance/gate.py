"""The tests' side of handlers_for_clients/gate.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conformance.served import Served


@dataclass(frozen=True)
class Gate:
    """Where a job of the endpoint `gate` waits until the test lets it go on."""

    emulator: Served
    name: str

    @property
    def input(self) -> dict[str, str]:
        """The input of a job that waits here."""
        return {"gate": self.name}

    def meet(self) -> None:
        """Return once a job waits here."""
        self._do("meet")

    def open(self) -> None:
        """Let the job go on."""
        self._do("open")

    def _do(self, what: str) -> None:
        body = {"input": {"gate": self.name, "do": what}}
        answer = self.emulator.post("/v2/gate/runsync", body)
        assert answer["status"] == "COMPLETED"
