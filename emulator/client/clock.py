"""Moving the emulated time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.client.connection import Connection, Duration, in_ms

if TYPE_CHECKING:
    from emulator.client.job import JobClient

#: Real seconds that an advance may take: what it causes runs in real time.
_ADVANCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Fired:
    """A timer: when (ms since the epoch), what it is for, and the id of the job or worker it is about."""

    at_ms: int
    kind: str
    subject: str | None


class ClockClient:
    """The time of the emulator, or of one endpoint that has its own."""

    def __init__(self, connection: Connection, endpoint_id: str | None = None) -> None:
        self._connection = connection
        self._endpoint_id = endpoint_id

    @property
    def mode(self) -> str:
        """`real`, `frozen`, `auto` or `scaled:N`; can be set."""
        return str(self._state()["mode"])

    @mode.setter
    def mode(self, mode: str) -> None:
        self._ask("PUT", "", {"mode": mode})

    @property
    def now_ms(self) -> int:
        """The time, ms since the epoch."""
        return int(self._state()["now_ms"])

    @property
    def pending(self) -> list[Fired]:
        """What time will bring, earliest first (the first thousand)."""
        return _timers(self._state()["timers"])

    def freeze(self) -> None:
        """Stop time; only advancing moves it from here."""
        self._ask("POST", "/freeze")

    def resume(self) -> None:
        """Let time run again, as it did at first (as real time, if that was not at all)."""
        self._ask("POST", "/resume")

    def advance(self, by: Duration) -> list[Fired]:
        """Move time forward by so many ms, a text like `"10s"`, or a timedelta.

        Due timers fire in order, and what they cause settles before this returns; returns them.
        """
        return self._advance({"by_ms": in_ms(by)})

    def advance_to_next(self) -> list[Fired]:
        """Move time to the next timer; returns what fired there."""
        return self._advance({"to_next": True})

    def advance_until(self, job: JobClient | str, status: str, max_ms: Duration | None = None) -> list[Fired]:
        """Move time from timer to timer until the job is in a state, e.g. `"TIMED_OUT"`; returns what fired.

        :raises Refused: it does not get there within `max_ms` (30 days), or nothing more is due.
        """
        body: dict[str, Any] = {"until": {"job": job if isinstance(job, str) else job.id, "status": status}}
        if max_ms is not None:
            body["max_ms"] = in_ms(max_ms)
        return self._advance(body)

    def _advance(self, body: dict[str, Any]) -> list[Fired]:
        return _timers(self._ask("POST", "/advance", body, wait_s=_ADVANCE_S)["fired"])

    def _state(self) -> Any:
        return self._ask("GET", "")

    def _ask(self, method: str, path: str, body: object = None, wait_s: float = 0.0) -> Any:
        return self._connection.control(
            method, f"/clock{path}", body, wait_s=wait_s, endpoint=self._endpoint_id
        )


def _timers(listed: list[dict[str, Any]]) -> list[Fired]:
    return [Fired(**timer) for timer in listed]
