"""The emulator's image in a test, by testcontainers-python: the extra `runpod-emulator[testcontainers]`.

    from emulator.testcontainers import RunpodEmulatorContainer

    with RunpodEmulatorContainer().with_handler("handler.py") as container:
        os.environ["RUNPOD_ENDPOINT_BASE_URL"] = container.get_base_url()

For suites that test a handler's image, or that are not allowed to have the emulator's packages beside their
own. In a plain pytest suite `Emulator(...).serve()` needs no engine and starts faster.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self

import httpx

from emulator.client import EmulatorClient
from emulator.core.config import EndpointConfig
from emulator.errors import ConfigError, EmulatorError
from emulator.settings import endpoints_of

try:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import WaitStrategy
except ImportError as error:
    raise ImportError(
        "emulator.testcontainers needs testcontainers-python 4.15 or newer:"
        " pip install 'runpod-emulator[testcontainers]'"
    ) from error

if TYPE_CHECKING:
    from os import PathLike

    from testcontainers.core.waiting_utils import WaitStrategyTarget

#: What containers of this class are labelled with, to be found by: `docker ps --filter label=…`.
MANAGED_LABEL = "runpod-emulator.managed"

_ANY_KEY = "local"
_HANDLERS = "/handlers"
#: In the root folder: it is there in every image.
_CONFIG_FILE = "/emulator.toml"
#: Real seconds between two looks, and for the answer to one.
_POLL_S = 0.1
_ANSWER_S = 2.0
_PATIENCE_S = 120
#: Containers in these states will never serve.
_OVER = frozenset({"exited", "dead", "removing"})
_CLIENT_TIMEOUT_S = 100.0


class EmulatorEnded(EmulatorError):
    """The emulator's container ended before it was ready; the message has its log."""


class RunpodEmulatorContainer(DockerContainer):
    """A container of the emulator's image; `with` starts it and returns once jobs can run.

    Without a handler it serves the mock worker on the endpoint `local`. The port is published as
    testcontainers does it, on any free port of all addresses of the machine, and any API key passes: give it
    a key of its own (`with_api_key`) on a network that is not yours.

    :param image: one made from the project's Dockerfile, or any whose command serves the emulator.
    :param port: the port in the container; the one to call it at is in `get_url()`.
    :param options: those of `DockerContainer`.
    """

    def __init__(self, image: str = "runpod-emulator:latest", port: int = 8000, **options: Any) -> None:
        super().__init__(image, **options)
        self.port = port
        self._tables: dict[str, dict[str, Any]] = {}
        # The image's own health check reads the variable too.
        self.with_env("EMULATOR_PORT", str(port))
        self.with_exposed_ports(port)
        self.waiting_for(ReadyWaitStrategy(port))

    # What it serves

    def with_handler(self, path: str | PathLike[str], function: str | None = None) -> Self:
        """Serve a handler of this machine: a script, or a function in a file.

        Its folder is mounted read-only, so neighbours that it imports are there too; workers run in it.

        :raises ConfigError: there is no such file.
        """
        handler = self._mounted(Path(path), function)
        return self.with_env("EMULATOR_HANDLER", handler).with_env(
            "EMULATOR_WORKDIR", str(PurePosixPath(handler).parent)
        )

    def with_endpoint(self, endpoint_id: str, **settings: Any) -> Self:
        """Serve an endpoint with settings of its own: those of `[endpoints.ID]` in docs/settings.md.

            .with_endpoint("images", handler="images/handler.py", workers_max=1, cold_start="8s")

        May be repeated; the first one also answers at the root. A `handler` given by its path
        (`"handler.py"`, `"handler.py:function"`) is of this machine, and its folder is mounted. Without one
        the endpoint has that of `with_handler`.

        :raises ConfigError: there is no such setting, its value is out of bounds, or the handler's file is
            not there.
        """
        # The interpreter is the container's: it is not to be looked for here.
        checked = {name: value for name, value in settings.items() if name != "python"}
        endpoints_of(None, (), EndpointConfig(), {endpoint_id: checked})
        table = dict(settings)
        if isinstance(handler := table.get("handler"), str):
            place, colon, function = handler.partition(".py:")
            if colon or handler.endswith(".py"):
                file = Path(f"{place}.py") if colon else Path(handler)
                table["handler"] = self._mounted(file, function or None)
        self._tables[endpoint_id] = table
        return self

    def with_api_key(self, key: str) -> Self:
        """Let this key pass, and no other."""
        return self.with_env("EMULATOR_API_KEY", key)

    def with_clock(self, mode: str) -> Self:
        """How time runs: `real`, `frozen`, `auto` or `scaled:N`."""
        return self.with_env("EMULATOR_CLOCK", mode)

    # How to reach it

    def get_url(self) -> str:
        """Where it serves, as seen from the test."""
        return f"http://{self.get_container_host_ip()}:{self.get_exposed_port(self.port)}"

    def get_base_url(self) -> str:
        """What SDKs are given (`RUNPOD_ENDPOINT_BASE_URL`): the URL and `/v2`."""
        return f"{self.get_url()}/v2"

    def get_api_key(self) -> str:
        """A key that passes (`RUNPOD_API_KEY`)."""
        return next(iter(self.env.get("EMULATOR_API_KEY", "").split()), _ANY_KEY)

    def client(self) -> httpx.Client:
        """A plain HTTP client with the base URL and the key: `client.post("/local/runsync", json={…})`."""
        return httpx.Client(
            base_url=self.get_base_url(),
            headers={"authorization": f"Bearer {self.get_api_key()}"},
            timeout=_CLIENT_TIMEOUT_S,
            # The container is near, whatever proxy the environment has for what is far.
            trust_env=False,
        )

    def emulator_client(self) -> EmulatorClient:
        """A client of the emulator's own API: endpoints, stubs, faults, the clock, webhook receivers."""
        return EmulatorClient(self.get_url(), api_key=self.get_api_key())

    # How it is started

    def start(self) -> Self:
        """Start it; returns once jobs can run.

        :raises EmulatorEnded: it ended instead, say because the handler cannot be loaded.
        :raises TimeoutError: it is not ready after two minutes.
        """
        return super().start()

    def _configure(self) -> None:
        """What every container has, beside what was asked for."""
        options = self._kwargs
        self._kwargs = {
            # Takes away what ended worker processes leave behind.
            "init": True,
            # Webhooks and handlers reach the test's own servers under this name, on Linux too.
            "extra_hosts": {"host.docker.internal": "host-gateway"},
            **options,
            "labels": {**options.get("labels", {}), MANAGED_LABEL: "true"},
        }
        if self._tables:
            # Copied, not mounted: no file is left behind here, and the container's user may read it.
            self.with_copy_into_container(_toml_of(self._tables).encode(), _CONFIG_FILE)
            self.with_env("EMULATOR_CONFIG", _CONFIG_FILE)

    def _mounted(self, file: Path, function: str | None) -> str:
        """A handler by its name in the container, where its folder is mounted."""
        if not file.is_file():
            raise ConfigError(f"the handler {str(file)!r} is not a file here: {file.absolute()}")
        folder = str(file.absolute().parent)
        if folder not in self.volumes:
            taken = {mount["bind"] for mount in self.volumes.values()}
            number = next(n for n in range(1, len(taken) + 2) if _folder(n) not in taken)
            self.with_volume_mapping(folder, _folder(number), "ro")
        place = f"{self.volumes[folder]['bind']}/{file.name}"
        return f"{place}:{function}" if function else place


class ReadyWaitStrategy(WaitStrategy):
    """Waits until `GET /_emulator/ready` answers 200, or the container has ended.

    The container's log is for people: it is not read for this.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.with_startup_timeout(_PATIENCE_S).with_poll_interval(_POLL_S)

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        """Wait.

        :raises EmulatorEnded: the container has ended.
        :raises TimeoutError: it is not ready in time; says what it answers.
        """
        try:
            url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(self._port)}"
        except TimeoutError:
            self._check_alive(container)
            raise
        answer = "nothing"

        def ready() -> bool:
            nonlocal answer
            try:
                response = client.get("/_emulator/ready")
            except httpx.TransportError as error:
                answer = f"nothing ({type(error).__name__})"
            else:
                answer = f"{response.status_code}: {response.text}"
                if response.status_code == HTTPStatus.OK:
                    return True
            container.reload()
            if container.status in _OVER:
                # How the base class is told that there is nothing left to wait for.
                raise StopIteration
            return False

        with httpx.Client(base_url=url, timeout=_ANSWER_S, trust_env=False) as client:
            is_ready = self._poll(ready)
        if not is_ready:
            self._check_alive(container)
            raise TimeoutError(
                f"the emulator at {url} is not ready after {self._startup_timeout:g} s;"
                f" GET /_emulator/ready answers {answer}"
            )

    @staticmethod
    def _check_alive(container: WaitStrategyTarget) -> None:
        container.reload()
        if container.status in _OVER:
            wrapped = container.get_wrapped_container()
            code = wrapped.attrs.get("State", {}).get("ExitCode", "unknown")
            log = b"".join(container.get_logs()).decode("utf-8", "replace").strip()
            raise EmulatorEnded(
                f"the emulator's container ended before it was ready (exit code {code}); its log:\n"
                + (log or "(empty)")
            )


def _folder(number: int) -> str:
    return _HANDLERS if number == 1 else f"{_HANDLERS}{number}"


def _toml_of(tables: dict[str, dict[str, Any]]) -> str:
    lines = []
    for endpoint_id, table in tables.items():
        lines.append(f"[endpoints.{_toml_text(endpoint_id)}]")
        lines += [f"{_toml_text(key.replace('_', '-'))} = {_toml(value)}" for key, value in table.items()]
    return "\n".join([*lines, ""])


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            pairs = (f"{_toml_text(str(key))} = {_toml(item)}" for key, item in value.items())
            return f"{{ {', '.join(pairs)} }}"
        case _:
            return _toml_text(str(value))


def _toml_text(text: str) -> str:
    # A JSON string is a TOML string, except for the one control character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
