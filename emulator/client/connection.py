"""Calls to an emulator, and what can go wrong with them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import httpx

from emulator.core.durations import duration_ms
from emulator.errors import EmulatorError
from emulator.http_transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.core.config import EndpointConfig
    from emulator.scenario.stubs import Stub

#: A number is in ms; a text is like `500ms`, `10s`, `2h` or `1d`.
Duration: TypeAlias = float | str | timedelta
_GENERAL_HINT = "see /_emulator/docs"
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
        #: Why, as the endpoint says it.
        self.detail = str(detail or self.body)
        super().__init__(
            f"{response.request.method} {response.request.url.path} → {self.status}: {self.detail}"
        )


class InProcess(Protocol):
    """What can be done to an emulator in this process alone: it is given functions."""

    def create_endpoint(self, endpoint_id: str, config: EndpointConfig, clock: str | None) -> None:
        """Add an endpoint whose handler may be a function."""

    def add_stub(self, endpoint_id: str, stub: Stub) -> int:
        """Add a stub whose matcher may be a function; returns its number."""


class Connection:
    """An emulator's address, and a client that keeps its connections."""

    def __init__(
        self, url: str, api_key: str, in_process: InProcess | None = None, *, code_token: str | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.api_key = api_key
        self._in_process = in_process
        self._code_token = code_token
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
            transport=Transport(verify=base_url.startswith("https:")),
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
        response = self._send(method, f"/_emulator{path}", body, wait_s, parameters, self._code_header)
        if response.is_success:
            return _json(response)
        raise _refusal(method, path, response)

    @property
    def _code_header(self) -> dict[str, str]:
        return {"x-emulator-code-token": self._code_token} if self._code_token else {}

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
        :raises TimeoutError: it waited in vain, on a clock that is frozen; says what for.
        :raises EmulatorUnreachable: nothing answers.
        """
        response = self._send(method, f"/v2/{path}", body, wait_s, {})
        if not response.is_success:
            raise CallRefused(response)
        answer = _json(response)
        if hint := response.headers.get("x-emulator-hint"):
            raise TimeoutError(f"job {answer['id']} is {answer['status']}: {hint}")
        return answer

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    def _send(
        self,
        method: str,
        path: str,
        body: object,
        wait_s: float,
        parameters: dict[str, object],
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        given = {name: str(value) for name, value in parameters.items() if value is not None}
        try:
            response = self._http.request(
                method,
                path,
                json=body,
                params=given,
                headers=headers,
                timeout=httpx.Timeout(_PATIENCE_S + wait_s),
            )
        except httpx.ConnectError as error:
            raise EmulatorUnreachable(
                f"nobody listens at {self.url.partition('://')[2]} (in a container, localhost is the"
                " container): start one with `runpod-emulator serve`, or name it (--url, EMULATOR_URL)"
            ) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise EmulatorUnreachable(f"{self.url} is no URL of an emulator: {error}") from error
        except httpx.TransportError as error:
            raise EmulatorUnreachable(
                f"the emulator at {self.url} did not answer: {type(error).__name__}: {error}"
            ) from error
        if not response.is_success and "x-emulator" not in response.headers:
            raise EmulatorUnreachable(
                f"what answers at {self.url} is not an emulator: {method} {path} →"
                f" {response.status_code} {response.reason_phrase}, from"
                f" {response.headers.get('server', 'a server that does not say what it is')}"
            )
        return response


def _refusal(method: str, path: str, response: httpx.Response) -> Refused:
    problem = _json(response)
    try:
        error = problem["error"]
        # That there are docs is no help to somebody who has made a mistake.
        hint = "" if error["hint"] == _GENERAL_HINT else f" ({error['hint']})"
        message = f"{error['message']}{hint}"
    except (KeyError, TypeError):
        message = f"{method} {path} → {response.status_code}: {problem}"
    return Refused(response.status_code, message)


def in_ms(duration: Duration) -> int:
    """A duration in ms: a number is one already.

    :raises ConfigError: it is a text, and not one like `10s`.
    """
    if isinstance(duration, str):
        return duration_ms(duration, "ms")
    return round(duration / timedelta(milliseconds=1) if isinstance(duration, timedelta) else duration)


def in_s(duration: Duration) -> float:
    """A duration in s: a number is one already.

    :raises ConfigError: it is a text, and not one like `10s`.
    """
    if isinstance(duration, str):
        return duration_ms(duration, "s") / 1000
    return duration / timedelta(seconds=1) if isinstance(duration, timedelta) else float(duration)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text
