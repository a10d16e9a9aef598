"""An emulator, wherever it runs."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from emulator.client.clock import ClockClient
from emulator.client.connection import Connection, InProcess
from emulator.client.endpoint import EndpointClient
from emulator.client.faults import FaultsClient
from emulator.client.journal import JournalClient
from emulator.client.sink import SinkClient
from emulator.core.config import EndpointConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


class EmulatorClient:
    """An emulator at a URL.

    :param url: where it serves, without `/v2`.
    :param api_key: a key that passes.
    :param code_token: the emulator's, without which it may not take a handler over HTTP (docs/security.md).
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str = "local",
        code_token: str | None = None,
        in_process: InProcess | None = None,
    ) -> None:
        self._connection = Connection(url, api_key, in_process, code_token=code_token)
        self.clock = ClockClient(self._connection)
        self.faults = FaultsClient(self._connection)
        self.journal = JournalClient(self._connection)

    def __repr__(self) -> str:
        return f"<EmulatorClient {self.url}>"

    def __enter__(self) -> EmulatorClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it serves."""
        return self._connection.url

    @property
    def base_url(self) -> str:
        """What SDKs are given: the URL and `/v2`."""
        return f"{self.url}/v2"

    @property
    def api_key(self) -> str:
        """A key that passes."""
        return self._connection.api_key

    def control(self, method: str, path: str, body: object = None, **parameters: str) -> Any:
        """Any call of the control API, e.g. `control("GET", "/workers")`.

        :raises Refused: it refuses.
        """
        return self._connection.control(method, path, body, wait_s=0.0, **parameters)

    def follow(self, path: str) -> Iterator[Any]:
        """What a followable resource of the control API sends, e.g. `/jobs/ID/logs`, until it ends.

        :raises Refused: it refuses.
        """
        return self._connection.follow(path)

    def endpoint(self, endpoint_id: str) -> EndpointClient:
        """An endpoint that is there."""
        return EndpointClient(self._connection, endpoint_id)

    def create_endpoint(
        self,
        endpoint_id: str | None = None,
        handler: object = None,
        *,
        clock: str | None = None,
        **settings: Any,
    ) -> EndpointClient:
        """Add an endpoint; without an id it gets one of its own.

        :param handler: a function, `"module:function"`, `"path.py"`, `"path.py:function"`; None answers by
            stubs (`endpoint.when`), and while there are none, as the mock worker does.
        :param clock: `real`, `frozen`, `auto` or `scaled:N`: a time of its own; None shares the emulator's.
        :param settings: those of `EndpointConfig`, e.g. `workers_max=1, cold_start_ms=2000`, or
            `command="node worker.mjs", worker_kind="process"`.
        :raises Refused: a setting is out of bounds, or the handler cannot be loaded.
        """
        made_id = endpoint_id or f"test-{secrets.token_hex(5)}"
        if callable(handler):
            config = EndpointConfig(handler=handler, **settings)
            self._connection.in_process("the handler").create_endpoint(made_id, config, clock)
        else:
            given = {**settings, "handler": None if handler is None else str(handler), "clock": clock}
            if given.get("workdir") is not None:
                given["workdir"] = str(given["workdir"])
            self._connection.control("PUT", f"/endpoints/{made_id}", given)
        return self.endpoint(made_id)

    def sink(self, name: str | None = None) -> SinkClient:
        """A webhook receiver; without a name it gets one of its own."""
        return SinkClient(self._connection, name or f"sink-{secrets.token_hex(5)}")

    def reset(self) -> None:
        """Forget all jobs, webhooks, stubs, faults, sinks and the journal; endpoints and handlers stay."""
        self._connection.control("POST", "/reset")

    def close(self) -> None:
        """Close the connections; the emulator goes on."""
        self._connection.close()
