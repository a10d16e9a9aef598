"""`RunpodEmulatorContainer`: what it asks of an engine, and that what it starts can be used.

Everything but the engine is real (fake_engine.py says what is not): testcontainers, docker-py, the wait for
`/_emulator/ready`, and in the container the emulator with the variables, files and folders it was given.
"""

import os
import subprocess
import sys
import textwrap
import threading
import tomllib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from testcontainers.core.config import ConnectionMode, testcontainers_config

from emulator import ConfigError
from emulator.testcontainers import EmulatorEnded, ReadyWaitStrategy, RunpodEmulatorContainer
from tests.docker.dockerfile import PROJECT
from tests.docker.fake_engine import fake_engine
from tests.limits import PATIENCE_S


@pytest.fixture
def engine(tmp_path, monkeypatch):
    folder = tmp_path / "containers"
    folder.mkdir()
    with fake_engine(folder) as (engine, address):
        for name in [name for name in os.environ if name.startswith(("DOCKER_", "TESTCONTAINERS_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("DOCKER_HOST", address)
        monkeypatch.setenv("NO_PROXY", "*")
        # The reaper is a container of an image of its own; there is nothing here for it to do.
        monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
        # Where these tests themselves run in a container, testcontainers would ask for networks.
        monkeypatch.setattr(testcontainers_config, "connection_mode_override", ConnectionMode.docker_host)
        yield engine
        assert not engine.containers, "a container was left behind"


def write(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def test_a_script_runs_with_its_folder_mounted_read_only(engine, tmp_path):
    folder = tmp_path / "worker"
    write(folder, "words.py", "GREETING = 'Hello'\n")
    script = """
        import runpod
        import words

        def handler(job):
            return f"{words.GREETING}, {job['input']['name']}!"

        runpod.serverless.start({"handler": handler})
        """
    container = RunpodEmulatorContainer().with_handler(write(folder, "handler.py", script))
    with container, container.client() as client:
        done = client.post("/local/runsync", json={"input": {"name": "Ada"}}).json()
        (made,) = engine.created
    assert done["output"] == "Hello, Ada!"
    assert made.spec["Image"] == "runpod-emulator:latest"
    assert made.spec["HostConfig"]["Binds"] == [f"{folder}:/handlers:ro"]
    assert made.variables["EMULATOR_HANDLER"] == "/handlers/handler.py"


def test_a_function_is_named_by_its_file(engine, tmp_path):
    handler = write(tmp_path / "worker", "handler.py", "def twice(job):\n    return 2 * job['input']\n")
    container = (
        RunpodEmulatorContainer("emulator-of-mine:3", port=9321)
        .with_handler(str(handler), "twice")
        .with_env("EMULATOR_WORKER_KIND", "inline")
    )
    with container, container.client() as client:
        assert client.post("/local/runsync", json={"input": 21}).json()["output"] == 42
        assert container.get_base_url() == f"{container.get_url()}/v2" == str(client.base_url).rstrip("/")
        (made,) = engine.created
    assert made.spec["Image"] == "emulator-of-mine:3"
    assert made.variables["EMULATOR_HANDLER"] == "/handlers/handler.py:twice"
    assert made.variables["EMULATOR_WORKDIR"] == "/handlers"
    assert list(made.spec["ExposedPorts"]) == ["9321/tcp"]


def test_endpoints_have_their_settings_and_handlers(engine, tmp_path):
    shared = write(tmp_path / "shared", "handler.py", "def run(job):\n    return 'shared'\n")
    write(tmp_path / "shared", "other.py", "def run(job):\n    return 'other'\n")
    far = write(tmp_path / "far", "handler.py", "def run(job):\n    return 'far'\n")
    container = (
        RunpodEmulatorContainer()
        .with_handler(shared, "run")
        .with_endpoint("plain", workers_max=1, idle_timeout="7s", flashboot=True, scaler_value=2)
        .with_endpoint("other", handler=f"{tmp_path}/shared/other.py:run", env={"NAME": 'a "b" \\ ü'})
        .with_endpoint("far", handler=f"{far}:run", args=["--model", "tiny"])
        .with_env("EMULATOR_WORKER_KIND", "inline")
    )
    with container, container.client() as client:
        outputs = [
            client.post(f"/{endpoint}/runsync", json={"input": 1}).json()["output"]
            for endpoint in ("plain", "other", "far")
        ]
        (made,) = engine.created
        with container.emulator_client() as emulator:
            plain = emulator.control("GET", "/endpoints/plain")
    assert outputs == ["shared", "other", "far"]
    assert plain["workers_max"] == 1
    assert made.spec["HostConfig"]["Binds"] == [
        f"{tmp_path}/shared:/handlers:ro",
        f"{tmp_path}/far:/handlers2:ro",
    ]
    (path,) = made.copied
    assert made.variables["EMULATOR_CONFIG"] == path
    assert made.copied[path].mode & 0o004, "the image's user must be able to read it"
    tables = tomllib.loads((made.folder / path.lstrip("/")).read_text())["endpoints"]
    assert tables["plain"] == {
        "workers-max": 1,
        "idle-timeout": "7s",
        "flashboot": True,
        "scaler-value": 2,
    }
    assert tables["other"]["env"] == {"NAME": 'a "b" \\ ü'}
    assert tables["far"]["args"] == ["--model", "tiny"]


def test_keys_and_the_clock_are_given_to_the_emulator(engine):
    container = RunpodEmulatorContainer().with_api_key("a-long-secret").with_clock("frozen")
    with container, container.client() as client, container.emulator_client() as emulator:
        assert container.get_api_key() == "a-long-secret"
        assert client.get("/local/health").status_code == 200
        assert client.get("/local/health", headers={"authorization": "another"}).status_code == 401
        job = emulator.endpoint("local").submit({"mock_delay": 60})
        assert emulator.clock.mode == "frozen"
        emulator.clock.advance(60_000)
        assert job.status == "COMPLETED"


def test_any_key_passes_when_none_is_given(engine):
    with RunpodEmulatorContainer() as container, container.client() as client:
        assert container.get_api_key()
        assert client.get("/local/health").status_code == 200


def test_it_can_be_found_is_cleaned_up_after_and_reaches_the_host(engine):
    asked = {"labels": {"team": "red"}, "mem_limit": "256m"}
    with RunpodEmulatorContainer().with_kwargs(**asked):
        (made,) = engine.created
    assert made.spec["Labels"]["runpod-emulator.managed"] == "true"
    assert made.spec["Labels"]["team"] == "red"
    assert made.spec["Labels"]["org.testcontainers"] == "true"
    assert made.spec["HostConfig"]["Init"] is True
    assert made.spec["HostConfig"]["ExtraHosts"] == ["host.docker.internal:host-gateway"]
    assert made.spec["HostConfig"]["Memory"] == 256 * 1024 * 1024
    assert made.process.returncode == 0


def test_what_was_asked_for_goes_before_what_is_the_default(engine):
    with RunpodEmulatorContainer().with_kwargs(init=False, extra_hosts={"db": "10.0.0.1"}):
        (made,) = engine.created
    assert made.spec["HostConfig"]["Init"] is False
    assert made.spec["HostConfig"]["ExtraHosts"] == ["db:10.0.0.1"]


def test_a_handler_that_does_not_load_is_told_at_once_with_the_log(engine, tmp_path):
    broken = write(tmp_path / "worker", "handler.py", "def run(job:\n")
    with (
        pytest.raises(EmulatorEnded, match=r"(?s)ended before it was ready \(exit code 2\).*handler\.py"),
        RunpodEmulatorContainer().with_handler(broken),
    ):
        pytest.fail("it is not ready")


class Target:
    """A container in these states, one after the other; the last one stays."""

    def __init__(self, port, states=("running",)):
        self._port = port
        self._states = list(states)
        self.status = "created"

    def get_container_host_ip(self):
        return "127.0.0.1"

    def get_exposed_port(self, port):
        assert port == 8000
        return self._port

    def get_wrapped_container(self):
        return SimpleNamespace(attrs={"State": {"ExitCode": 137}})

    def get_logs(self):
        return b"Ready soon.\n", b"killed\n"

    def reload(self):
        self.status = self._states.pop(0) if len(self._states) > 1 else self._states[0]


@contextmanager
def answering(*statuses):
    """The port of a server that answers so, and the paths it was asked for."""
    left, asked = list(statuses), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.end_headers()
            self.wfile.write(b"reasons")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join()


class TestWaiting:
    def test_it_goes_on_until_the_emulator_is_ready_and_reads_no_log(self):
        with answering(503, 503, 200) as (port, asked):
            target = Target(port)
            target.get_logs = None
            ReadyWaitStrategy(8000).with_poll_interval(0).wait_until_ready(target)
        assert asked == ["/_emulator/ready"] * 3

    def test_it_is_given_up_and_what_was_answered_is_told(self):
        strategy = ReadyWaitStrategy(8000).with_startup_timeout(1)
        told = r"not ready after 1 s; GET /_emulator/ready answers 503: reasons"
        with answering(503) as (port, _), pytest.raises(TimeoutError, match=told):
            strategy.wait_until_ready(Target(port))

    def test_it_ends_with_the_container(self):
        strategy = ReadyWaitStrategy(8000).with_poll_interval(0)
        told = r"(?s)exit code 137\); its log:\nReady soon\.\nkilled"
        with answering(503) as (port, _), pytest.raises(EmulatorEnded, match=told):
            strategy.wait_until_ready(Target(port, ["running", "running", "exited"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 3}, "unknown key 'workers'"),
        ({"cold_start": "soon"}, "'soon' is not a duration"),
        ({"scaler_type": "SOMETIMES"}, "QUEUE_DELAY or REQUEST_COUNT"),
        ({"handler": "nowhere/handler.py"}, "'nowhere/handler.py' is not a file here"),
    ],
)
def test_settings_are_checked_before_anything_is_started(engine, settings, message):
    with pytest.raises(ConfigError, match=message):
        RunpodEmulatorContainer().with_endpoint("images", **settings)
    assert engine.created == []


def test_an_interpreter_is_the_containers(engine):
    RunpodEmulatorContainer().with_endpoint("images", python="/venv/bin/python")


def test_a_handler_must_be_there(engine):
    with pytest.raises(ConfigError, match=r"'missing\.py' is not a file here: /"):
        RunpodEmulatorContainer().with_handler("missing.py")


def test_without_testcontainers_it_says_what_to_install():
    program = "import sys; sys.modules['testcontainers'] = None; import emulator.testcontainers"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: emulator.testcontainers needs testcontainers-python 4.15 or newer:"
        " pip install 'runpod-emulator[testcontainers]'"
    )
