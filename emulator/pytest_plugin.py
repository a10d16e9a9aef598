"""Fixtures for tests of code that calls Runpod Serverless endpoints (docs/testing.md).

    def test_a_caption(endpoint):
        endpoint.when(input={"image": "cat.png"}).returns({"caption": "a cat"})
        assert captions.of("cat.png", endpoint.url, endpoint.api_key) == "a cat"

One emulator serves all tests of a session, in a thread of its own. Each test has an endpoint to itself.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass, fields
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emulator.client import ClockClient, EmulatorClient, EndpointClient, SinkClient

_MARKER = (
    "emulator(handler=None, clock=None, faults=[], emulator_state=None, **settings): what the test's endpoint"
    " is like, and the file of a state (docs/state.md) that it starts from"
)
#: Of each job, so many of the lines its worker wrote.
_LINES_SHOWN = 20
#: The last jobs and calls that a failed test's report shows.
_JOBS_SHOWN = 10
_CALLS_SHOWN = 30
_REAL_HOSTS = ("runpod.ai", "runpod.io")
_NOT_BY_PROXY = "127.0.0.1,localhost,.runpod.ai,.runpod.io"
_REAL_BASE_URL = "https://api.runpod.ai/v2"
#: What the SDK looks at when it is imported.
_BASE_URL_VARIABLE = "RUNPOD_ENDPOINT_BASE_URL"
_API_KEY_VARIABLE = "RUNPOD_API_KEY"

_endpoints = pytest.StashKey["list[EndpointClient]"]()
_failed = pytest.StashKey[bool]()


class RealAPICall(Exception):
    """The test was about to call the real API."""


@dataclass(frozen=True)
class RunpodEnv:
    """Where the SDKs are pointed at."""

    #: For the JavaScript SDK's `baseUrl`, and whoever else wants it: ends with `/v2`.
    base_url: str
    api_key: str


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and their twins in the configuration file."""
    group = parser.getgroup("runpod-emulator")
    for name, text in (
        ("emulator-url", "use the emulator that serves here, instead of starting one"),
        ("emulator-artifacts", "a folder for the journals of failed tests"),
    ):
        group.addoption(f"--{name}", default=None, help=text)
        parser.addini(name.replace("-", "_"), text, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Say why a test file is not found in a package that has our name."""
    report: pytest.CollectReport = yield
    if report.failed and "No module named 'emulator." in str(report.longrepr):
        named = next((each for each in collector.path.parents if each.name == "emulator"), collector.path)
        report.sections.append((
            "runpod-emulator",
            f"{named} is called like the package of runpod-emulator, which is imported already: rename it, or"
            " remove its __init__.py",
        ))  # fmt: skip
    return report


@pytest.fixture(scope="session")
def emulator(pytestconfig: pytest.Config) -> Iterator[EmulatorClient]:
    """The emulator of this session: in this process, or the one at `--emulator-url`."""
    from emulator import Emulator, EmulatorClient
    from emulator.errors import EmulatorError

    if url := _option(pytestconfig, "emulator_url"):
        key = os.environ.get("EMULATOR_API_KEY", "").split(maxsplit=1)
        token = os.environ.get("EMULATOR_CODE_TOKEN")
        with EmulatorClient(url, api_key=key[0] if key else "local", code_token=token) as client:
            try:
                # Whether all its endpoints have workers is not for the tests that bring their own.
                client.control("GET", "/endpoints")
            except EmulatorError as error:
                pytest.exit(f"--emulator-url {url}: {error}", returncode=pytest.ExitCode.USAGE_ERROR)
            yield client
    else:
        with Emulator().serve() as client:
            yield client


@pytest.fixture
def make_endpoint(
    request: pytest.FixtureRequest, emulator: EmulatorClient
) -> Iterator[Callable[..., EndpointClient]]:
    """Makes any number of endpoints, which go with the test: `make_endpoint(handler=…, workers_max=1)`.

    Arguments are those of the marker; what is not given is what the marker says.
    """
    marked = _marked(request.node)
    with ExitStack() as endpoints:

        def make(**settings: Any) -> EndpointClient:
            wanted = {**marked, **_checked(settings, "make_endpoint")}
            if not _option(request.config, "emulator_url"):
                wanted = _from_root(wanted, request.config.rootpath)
            faults = wanted.pop("faults", ())
            state = wanted.pop("emulator_state", None)
            endpoint = emulator.create_endpoint(**wanted)
            endpoints.callback(_remove, endpoint)
            request.node.stash.setdefault(_endpoints, []).append(endpoint)
            for rule in [faults] if isinstance(faults, str | dict) else faults:
                if isinstance(rule, str):
                    endpoint.faults.preset(rule)
                else:
                    endpoint.faults.add_rule(rule)
            if state is not None:
                endpoint.load_state(_state_lines(request.config.rootpath / state))
            return endpoint

        yield make
        if not request.node.stash.get(_failed, False):
            for each in request.node.stash.get(_endpoints, []):
                _check_stubs(each)


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, make_endpoint: Callable[..., EndpointClient]) -> EndpointClient:
    """An endpoint of the test's own, as `@pytest.mark.emulator(…)` says."""
    frozen = "emulator_clock" in request.fixturenames and "clock" not in _marked(request.node)
    return make_endpoint(clock="frozen") if frozen else make_endpoint()


@pytest.fixture
def emulator_clock(endpoint: EndpointClient) -> ClockClient:
    """The time of the test's endpoint: its own, and frozen unless the marker says otherwise."""
    return _ours(endpoint, "emulator_clock").clock


@pytest.fixture
def webhook_sink(request: pytest.FixtureRequest, emulator: EmulatorClient) -> Iterator[SinkClient]:
    """A webhook receiver: give its `url` to a job, script its `answers`, `wait` for what comes."""
    if "endpoint" in request.fixturenames:
        sink = _ours(request.getfixturevalue("endpoint"), "webhook_sink").sink()
    else:
        sink = emulator.sink()
    yield sink
    sink.remove()


@pytest.fixture
def runpod_env(
    request: pytest.FixtureRequest, emulator: EmulatorClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunpodEnv]:
    """Points the Python SDK at the emulator, even if it was imported before; a call of the real API fails."""
    env = RunpodEnv(emulator.base_url, emulator.api_key)
    no_proxy = ",".join(filter(None, (os.environ.get("NO_PROXY"), _NOT_BY_PROXY)))
    before = os.environ.get(_BASE_URL_VARIABLE, _REAL_BASE_URL)
    key_before = os.environ.get(_API_KEY_VARIABLE)
    monkeypatch.setenv(_BASE_URL_VARIABLE, env.base_url)
    monkeypatch.setenv(_API_KEY_VARIABLE, env.api_key)
    # A proxy would look up the real host for us.
    monkeypatch.setenv("NO_PROXY", no_proxy)
    monkeypatch.setenv("no_proxy", no_proxy)
    if (sdk := sys.modules.get("runpod")) is not None:
        _point(sdk, env, monkeypatch)
    else:
        monkeypatch.setattr(sys, "meta_path", [_SDKFinder(env), *sys.meta_path])
    calls = _refuse_real_hosts(monkeypatch, env)
    yield env
    imported = sys.modules.get("runpod")
    if sdk is None and imported is not None and _is_sdk(imported):
        # What it had read if it had been imported outside of the test.
        imported.endpoint_url_base = before  # type: ignore[attr-defined]
        imported.api_key = key_before  # type: ignore[attr-defined]
    if calls and not request.node.stash.get(_failed, False):
        pytest.fail(f"{calls[0]} The code under test has swallowed this.", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Add to a failed test's report what happened to its jobs, and keep it if that is wanted."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    if report.when == "call" and report.failed:
        for endpoint in item.stash.get(_endpoints, []):
            try:
                told = _story(endpoint)
                if folder := _option(item.config, "emulator_artifacts"):
                    kept = _keep(endpoint, Path(folder) / _file_name(item.nodeid), told)
                    told += f"\n\nkept in {kept}"
            except Exception as error:
                told = f"cannot be told: {error}"
            report.sections.append((f"runpod-emulator: {endpoint.id}", told))
    return report


def _ours(endpoint: Any, asking: str) -> EndpointClient:
    """The endpoint that a fixture of ours has asked for, unless the user has one of that name."""
    from emulator.client import EndpointClient

    if not isinstance(endpoint, EndpointClient):
        pytest.fail(
            f"{asking} is that of runpod-emulator's fixture `endpoint`, and this test finds another in its"
            f" place ({endpoint!r:.100}): rename yours, or have it return make_endpoint(…)",
            pytrace=False,
        )
    return endpoint


def _option(config: pytest.Config, name: str) -> str | None:
    value = config.getoption(name) or config.getini(name)
    return str(value) if value else None


def _marked(node: Any) -> dict[str, Any]:
    """What the markers say, the test's own over its class's over its module's."""
    settings: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers("emulator"))):
        if marker.args:
            pytest.fail(
                f"@pytest.mark.emulator takes names only: write handler={marker.args[0]!r}", pytrace=False
            )
        settings.update(_checked(marker.kwargs, "@pytest.mark.emulator"))
    return settings


def _checked(settings: dict[str, Any], where: str) -> dict[str, Any]:
    from emulator import EndpointConfig

    known = {field.name for field in fields(EndpointConfig)} | {
        "endpoint_id",
        "clock",
        "faults",
        "emulator_state",
    }
    for name in settings:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean {close[0]}?" if close else f": there are {', '.join(sorted(known))}"
            pytest.fail(f"{where} knows no {name!r}{hint}", pytrace=False)
    return settings


def _from_root(settings: dict[str, Any], root: Path) -> dict[str, Any]:
    """The settings with paths that start at pytest's rootdir, wherever it was started."""
    handler = settings.get("handler")
    if settings.get("worker_kind") == "process":
        return {**settings, "workdir": root / (settings.get("workdir") or "")}
    if isinstance(handler, str | Path) and re.search(r"\.py(:\w+)?$", str(handler)):
        return {**settings, "handler": str(root / handler)}
    return settings


def _state_lines(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        pytest.fail(f"emulator_state: {path} cannot be read: {error}", pytrace=False)


def _check_stubs(endpoint: EndpointClient) -> None:
    from emulator.errors import ConfigError

    try:
        endpoint.check_stubs()
    except ConfigError as error:
        pytest.fail(str(error), pytrace=False)


def _remove(endpoint: EndpointClient) -> None:
    from emulator.client import Refused

    try:
        endpoint.remove()
    except Refused as error:
        if error.status != 404:
            raise


class _SDKFinder(MetaPathFinder):
    """Points the SDK at the emulator when it is first imported within the test.

    It reads the base URL from the environment by itself, and the key from a file of the user's alone.
    """

    def __init__(self, env: RunpodEnv) -> None:
        self._env = env

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "runpod" or (spec := PathFinder.find_spec(name, path, target)) is None or not spec.loader:
            return None
        load = spec.loader.exec_module

        def load_and_point(module: ModuleType) -> None:
            load(module)
            if _is_sdk(module):
                module.api_key = self._env.api_key  # type: ignore[attr-defined]

        spec.loader.exec_module = load_and_point  # type: ignore[method-assign]
        return spec


def _is_sdk(module: Any) -> bool:
    """Whether it is the SDK, and no stub of a test."""
    return hasattr(module, "endpoint_url_base")


def _point(sdk: ModuleType, env: RunpodEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point an SDK that has been imported: it has read the variables by then."""
    if _is_sdk(sdk):
        monkeypatch.setattr(sdk, "endpoint_url_base", env.base_url)
        monkeypatch.setattr(sdk, "api_key", env.api_key)


def _refuse_real_hosts(monkeypatch: pytest.MonkeyPatch, env: RunpodEnv) -> list[str]:
    """Have name look-ups of the real API's hosts fail; returns the list to which each is added."""
    calls: list[str] = []

    def check(host: Any) -> None:
        name = host.decode() if isinstance(host, bytes) else str(host or "")
        if any(name == real or name.endswith(f".{real}") for real in _REAL_HOSTS):
            calls.append(
                f"A call of the real API was stopped: {name}. The emulator is at {env.base_url}:"
                " make the client within the test, or give it this base URL."
            )
            raise RealAPICall(calls[-1])

    def guarded(look_up: Callable[..., Any], place: int) -> Callable[..., Any]:
        def check_first(*arguments: Any, **options: Any) -> Any:
            check(arguments[place] if len(arguments) > place else options.get("host"))
            return look_up(*arguments, **options)

        return check_first

    monkeypatch.setattr(socket, "getaddrinfo", guarded(socket.getaddrinfo, 0))
    if importlib.util.find_spec("aiohttp") is not None:
        # It may look names up without Python's socket module.
        from aiohttp import resolver

        for kind in (resolver.AsyncResolver, resolver.ThreadedResolver):
            monkeypatch.setattr(kind, "resolve", guarded(kind.resolve, 1))
    return calls


def _story(endpoint: EndpointClient) -> str:
    """What happened at an endpoint: its calls, and the time line of each job."""
    calls = endpoint.journal.find(kind="api")
    lines = [
        "no calls came"
        if not calls
        else f"{len(calls)} call{'' if len(calls) == 1 else 's'}"
        + (f", the last {_CALLS_SHOWN}:" if len(calls) > _CALLS_SHOWN else ":"),
        *(_call_line(call) for call in calls[-_CALLS_SHOWN:]),
    ]
    for job in endpoint.jobs[-_JOBS_SHOWN:]:
        view = job.view
        lines += ["", f"job {job.id}, input {view['input']!r:.200}", *job.timeline]
        if view["waiting_for"] is not None:
            lines.append(f"  waiting: {view['waiting_for']}")
        if written := job.logs[-_LINES_SHOWN:]:
            lines += ["  its worker wrote:", *(f"  │ {line}" for line in written)]
    return "\n".join(lines)


def _call_line(call: dict[str, Any]) -> str:
    fault = f"  [fault {call['fault']}]" if call["fault"] else ""
    problem = ""
    if call["status"] is not None and call["status"] >= 400:
        body = call["response"]["body"]
        problem = f"  {body.get('detail', body) if isinstance(body, dict) else body!s:.200}"
    return f"  {call['text']}{fault}{problem}"


def _keep(endpoint: EndpointClient, folder: Path, told: str) -> Path:
    folder = folder / endpoint.id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "story.txt").write_text(told + "\n", encoding="utf-8")
    (folder / "journal.jsonl").write_text(endpoint.journal.jsonl(), encoding="utf-8")
    (folder / "journal.har").write_text(endpoint.journal.har(), encoding="utf-8")
    return folder


def _file_name(nodeid: str) -> str:
    return re.sub(r"[^\w.-]+", "_", nodeid).strip("_")[:150]
