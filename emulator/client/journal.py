"""What has happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emulator.client.connection import in_s
from emulator.scenario.matching import as_json

if TYPE_CHECKING:
    from emulator.client.connection import Connection, Duration

#: So many entries are shown of those that came, when others were waited for.
_SHOWN = 10


class JournalClient:
    """The journal of the emulator, or of one endpoint. Entries are JSON objects (docs/testing.md)."""

    def __init__(self, connection: Connection, endpoint_id: str | None = None) -> None:
        self._connection = connection
        self._endpoint_id = endpoint_id

    def find(
        self, match: object = None, *, kind: str | None = None, job: str | None = None, since: int = 0
    ) -> list[dict[str, Any]]:
        """The entries that are like `match`, oldest first.

        `kind` is `api`, `worker`, `job`, `webhook`, `fault` or `pool`.
        """
        found: list[dict[str, Any]] = self._ask("find", match, kind, job, since)["entries"]
        return found

    def count(self, match: object = None, *, kind: str | None = None, job: str | None = None) -> int:
        """How many entries there are that are like `match`."""
        return int(self._ask("count", match, kind, job)["count"])

    def wait(
        self,
        match: object = None,
        *,
        count: int = 1,
        kind: str | None = None,
        job: str | None = None,
        timeout_s: Duration = 30.0,
    ) -> list[dict[str, Any]]:
        """Wait, in real time, until there are `count` such entries; returns them.

        :raises TimeoutError: there are fewer by then.
        """
        patience_s = in_s(timeout_s)
        more = {"count": count, "timeout_ms": round(patience_s * 1000)}
        found: list[dict[str, Any]] = self._ask("wait", match, kind, job, wait_s=patience_s, **more)[
            "entries"
        ]
        if len(found) < count:
            others = self.find(kind=kind, job=job)[-_SHOWN:]
            sentence = f"{len(found)} of {count} entries came within {patience_s:g} s"
            told = [f"{sentence}; the last there are:" if others else f"{sentence}; there are none at all"]
            raise TimeoutError("\n".join([*told, *(f"  {each['kind']}: {each['text']}" for each in others)]))
        return found

    def jsonl(self) -> str:
        """All entries, a JSON object a line."""
        return self._connection.text("/journal", format="jsonl", endpoint=self._endpoint_id)

    def har(self) -> str:
        """All calls as an HTTP archive, which browsers' developer tools open."""
        return self._connection.text("/journal", format="har", endpoint=self._endpoint_id)

    def clear(self) -> None:
        """Forget all entries."""
        self._connection.control("DELETE", "/journal", endpoint=self._endpoint_id)

    def _ask(
        self,
        what: str,
        match: object,
        kind: str | None,
        job: str | None,
        since: int = 0,
        *,
        wait_s: float = 0.0,
        **more: int,
    ) -> Any:
        body = {
            "match": as_json(match),
            "kind": kind,
            "job": job,
            "since": since,
            "endpoint": self._endpoint_id,
            **more,
        }
        return self._connection.control("POST", f"/journal/{what}", body, wait_s=wait_s)
