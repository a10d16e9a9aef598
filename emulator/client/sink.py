"""A webhook receiver that the emulator hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emulator.client.connection import in_s

if TYPE_CHECKING:
    from emulator.client.connection import Connection, Duration


class SinkClient:
    """Give its `url` as a job's webhook, and look at what came."""

    def __init__(self, connection: Connection, name: str, endpoint_id: str | None = None) -> None:
        self._connection = connection
        self._endpoint_id = endpoint_id
        self.name = name

    @property
    def url(self) -> str:
        """Where it receives."""
        return str(self._ask("GET", "")["url"])

    @property
    def deliveries(self) -> list[dict[str, Any]]:
        """What came, oldest first: `number`, `at_ms`, `method`, `headers`, `body` (parsed), and the `status`
        that was answered.
        """
        found: list[dict[str, Any]] = self._ask("GET", "")["deliveries"]
        return found

    @property
    def bodies(self) -> list[Any]:
        """The bodies that came, parsed, oldest first."""
        return [delivery["body"] for delivery in self.deliveries]

    def wait(self, count: int = 1, timeout_s: Duration = 30.0) -> list[dict[str, Any]]:
        """Wait, in real time, until it has been called `count` times in all; returns the deliveries.

        :raises TimeoutError: it has not by then.
        """
        patience_s = in_s(timeout_s)
        body = {"count": count, "timeout_ms": round(patience_s * 1000)}
        found = self._ask("POST", "/wait", body, wait_s=patience_s)
        if found["count"] < count:
            clock = self._connection.control("GET", "/clock", endpoint=self._endpoint_id)
            frozen = (
                "; the clock is frozen: advance it for another attempt" if clock["mode"] == "frozen" else ""
            )
            came = [f"  {_told(delivery['body'])} → {delivery['status']}" for delivery in found["deliveries"]]
            sentence = f"{found['count']} of {count} webhooks came within {patience_s:g} s{frozen}"
            raise TimeoutError("\n".join([sentence, *came]))
        deliveries: list[dict[str, Any]] = found["deliveries"]
        return deliveries

    def answers(self, *answers: int | dict[str, Any]) -> SinkClient:
        """Answer so from now on, one after the other, and then with 200: statuses, or dicts with `status`,
        `body` and `delay_ms`.
        """
        self._ask("PUT", "/answers", {"answers": list(answers)})
        return self

    def redeliver(self) -> None:
        """Have the last webhook that was sent here sent once more.

        :raises LookupError: none was.
        """
        path = f"/_emulator/sink/{self.name}"
        sent = [
            each
            for each in self._connection.control("GET", "/webhooks")["webhooks"]
            if each["url"].endswith(path)
        ]
        if not sent:
            raise LookupError(f"no webhook was sent to {self.name}")
        self._connection.control("POST", f"/webhooks/{sent[-1]['id']}/redeliver")

    def remove(self) -> None:
        """Forget it, and what came."""
        self._ask("DELETE", "")

    def _ask(self, method: str, path: str, body: object = None, wait_s: float = 0.0) -> Any:
        return self._connection.control(
            method,
            f"/sinks/{self.name}{path}",
            body,
            wait_s=wait_s,
            endpoint=self._endpoint_id if path == "/wait" else None,
        )


def _told(body: Any) -> str:
    """A webhook's body in a line: of a job, which it is and how it ended."""
    if isinstance(body, dict) and {"id", "status"} <= body.keys():
        return f"job {body['id']}: {body['status']}"
    return f"{body!r:.100}"
