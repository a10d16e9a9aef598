"""One job, followed from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emulator.client.connection import CallRefused, in_s

if TYPE_CHECKING:
    from emulator.client.connection import Connection, Duration

_TERMINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})


class JobClient:
    """A job. Every property is asked for anew: it is what is true now."""

    def __init__(self, connection: Connection, endpoint_id: str, job_id: str) -> None:
        self._connection = connection
        self._endpoint_id = endpoint_id
        self.id = job_id

    def __repr__(self) -> str:
        return f"<JobClient {self.id}>"

    @property
    def view(self) -> dict[str, Any]:
        """All that is known of it, as the control API tells."""
        found: dict[str, Any] = self._connection.control("GET", f"/jobs/{self.id}")
        return found

    @property
    def status(self) -> str:
        """Its state: `IN_QUEUE`, `IN_PROGRESS`, `COMPLETED`, `FAILED`, `CANCELLED`, `TIMED_OUT`."""
        return str(self.view["status"])

    @property
    def input(self) -> Any:
        """What it was submitted with."""
        return self.view["input"]

    @property
    def output(self) -> Any:
        """Its output; while it is in progress, its latest progress update."""
        return self.view["output"]

    @property
    def error(self) -> str | None:
        """Why it failed."""
        error: str | None = self.view["error"]
        return error

    @property
    def retries(self) -> int:
        """How often it was queued again because its worker was lost."""
        return int(self.view["retries"])

    def wait(self, timeout_s: Duration = 30.0) -> JobClient:
        """Wait, in real time, for its end; returns the job.

        :raises TimeoutError: it has not ended by then; says what it waits for and what has happened so far.
        """
        patience_s = in_s(timeout_s)
        found = self.look_again(patience_s)
        if found["status"] not in _TERMINAL:
            why = found["waiting_for"] or "this is what has happened"
            raise TimeoutError(
                f"job {self.id} is {found['status']} after {patience_s:g} s: {why}\n"
                + "\n".join(self.timeline)
            )
        return self

    def look_again(self, timeout_s: float) -> dict[str, Any]:
        """All that is known of it once it has ended, or after so many real seconds."""
        found: dict[str, Any] = self._connection.control(
            "POST", f"/jobs/{self.id}/wait", {"timeout_ms": round(timeout_s * 1000)}, wait_s=timeout_s
        )
        return found

    def take_chunks(self, wait_s: float) -> list[Any]:
        """The chunks of its stream that nobody has read yet, waiting up to `wait_s` for the first.

        A job that is gone has none.
        """
        wait_ms = max(1_000, round(wait_s * 1000))
        try:
            answer = self._connection.call(
                "GET", f"{self._endpoint_id}/stream/{self.id}?wait={wait_ms}", wait_s=wait_s
            )
        except CallRefused as error:
            if error.status != 404:
                raise
            return []
        return [each["output"] for each in answer["stream"]]

    def lines_after(self, number: int) -> list[dict[str, Any]]:
        """What worker processes have written about it, after the line with this number."""
        lines: list[dict[str, Any]] = self._connection.control("GET", f"/jobs/{self.id}/logs", after=number)[
            "lines"
        ]
        return lines

    def cancel(self) -> JobClient:
        """Cancel it, as a client does."""
        self._connection.call("POST", f"{self._endpoint_id}/cancel/{self.id}")
        return self

    def retry(self) -> JobClient:
        """Queue it again once it has failed, as a client does."""
        self._connection.call("POST", f"{self._endpoint_id}/retry/{self.id}")
        return self

    @property
    def timeline(self) -> list[str]:
        """What has happened to it, a line each."""
        lines: list[str] = self._connection.control("GET", f"/jobs/{self.id}/timeline")["lines"]
        return lines

    @property
    def logs(self) -> list[str]:
        """What worker processes have written about it."""
        return [line["text"] for line in self._connection.control("GET", f"/jobs/{self.id}/logs")["lines"]]
