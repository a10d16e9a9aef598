"""Calls to an emulator, and what can go wrong with them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from emulator.errors import EmulatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.core.config import EndpointConfig
    from emulator.scenario.stubs import Stub

#: Real seconds beyond what a call itself waits for.
_PATIENCE_S = 30.0


class EmulatorUnreachable(EmulatorError):
    """No emulator answers at this address."""


class Refused(EmulatorError):
    """The emulator refuses a request of its control API."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class CallRefused(EmulatorError):
    """The endpoint answered a call with an error, as production would; it has the `status` and the `body`."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.body = _json(response)
        detail = self.body.get("detail") if isinstance(self.body, dict) else None
        super().__init__(
            f"{response.request.method} {response.request.url.path} → {self.status}: {detail or self.body}"
        )


class InProcess(Protocol):
    """What can be done to an emulator in this process alone: it is given functions."""

    def create_endpoint(self, endpoint_id: str, config: EndpointConfig, clock: str | None) -> None:
        """Add an endpoint whose handler may be a function."""

    def add_stub(self, endpoint_id: str, stub: Stub) -> int:
        """Add a stub whose matcher may be a function; returns its number."""


class Connection:
    """An emulator's address, and a client that keeps its connections."""

    def __init__(self, url: str, api_key: str, in_process: InProcess | None = None) -> None:
        self.url = url.rstrip("/")
        self.api_key = api_key
        self._in_process = in_process
        self._clients: list[httpx.Client] = []
        self._http = self.new_http_client(self.url)

    def new_http_client(self, base_url: str) -> httpx.Client:
        """A client with the API key set; redirects and proxies of the environment are left aside."""
        client = httpx.Client(
            base_url=base_url,
            headers={"authorization": f"Bearer {self.api_key}"},
            timeout=_PATIENCE_S,
            trust_env=False,
            # Loading certificates takes as long as starting the emulator.
            verify=base_url.startswith("https:"),
        )
        self._clients.append(client)
        return client

    def in_process(self, what: str) -> InProcess:
        """The emulator in this process.

        :raises EmulatorError: it is in another, where `what` cannot be sent.
        """
        if self._in_process is None:
            raise EmulatorError(
                f"{what} is a function, which cannot be sent to the emulator at {self.url}:"
                " name it 'module:function' where that emulator can import it, or use one in this process"
            )
        return self._in_process

    def control(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        wait_s: float = 0.0,
        **parameters: object,
    ) -> Any:
        """The answer of the control API; `wait_s` is for how long the call itself may wait.

        :raises Refused: it refuses.
        :raises EmulatorUnreachable: nothing answers.
        """
        response = self._send(method, f"/_emulator{path}", body, wait_s, parameters)
        if response.is_success:
            return _json(response)
        raise _refusal(method, path, response)

    def follow(self, path: str) -> Iterator[Any]:
        """The JSON objects of a stream of server-sent events.

        :raises Refused: it refuses.
        :raises EmulatorUnreachable: nothing answers.
        """
        url = f"/_emulator{path}?follow=true"
        try:
            with self._http.stream("GET", url, timeout=httpx.Timeout(_PATIENCE_S, read=None)) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal("GET", path, response)
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line.removeprefix("data:"))
        except httpx.TransportError as error:
            raise EmulatorUnreachable(f"the emulator at {self.url} is gone: {error}") from error

    def text(self, path: str, **parameters: object) -> str:
        """A document of the control API.

        :raises EmulatorUnreachable: nothing answers.
        """
        return self._send("GET", f"/_emulator{path}", None, 0.0, parameters).text

    def call(self, method: str, path: str, body: object = None, *, wait_s: float = 0.0) -> Any:
        """The answer of an endpoint's operation.

        :raises CallRefused: it is an error.
        :raises EmulatorUnreachable: nothing answers.
        """
        response = self._send(method, f"/v2/{path}", body, wait_s, {})
        if response.is_success:
            return _json(response)
        raise CallRefused(response)

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    def _send(
        self, method: str, path: str, body: object, wait_s: float, parameters: dict[str, object]
    ) -> httpx.Response:
        given = {name: str(value) for name, value in parameters.items() if value is not None}
        try:
            return self._http.request(
                method, path, json=body, params=given, timeout=httpx.Timeout(_PATIENCE_S + wait_s)
            )
        except httpx.ConnectError as error:
            raise EmulatorUnreachable(
                f"no emulator answers at {self.url}: start one with `runpod-emulator serve`,"
                " or say where it is (--url, EMULATOR_URL)"
            ) from error
        except httpx.TransportError as error:
            raise EmulatorUnreachable(
                f"the emulator at {self.url} did not answer: {type(error).__name__}: {error}"
            ) from error


def _refusal(method: str, path: str, response: httpx.Response) -> Refused:
    problem = _json(response)
    try:
        error = problem["error"]
        message = f"{error['message']} ({error['hint']})"
    except (KeyError, TypeError):
        message = f"{method} {path} → {response.status_code}: {problem}"
    return Refused(response.status_code, message)


def in_ms(duration: float | timedelta) -> int:
    """A duration in ms: a number is one already."""
    return round(duration / timedelta(milliseconds=1) if isinstance(duration, timedelta) else duration)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text
