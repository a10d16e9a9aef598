"""The plugin beside what people combine it with: all of it at once, in one run."""

import pytest

from tests import quick_pytest
from tests.limits import PATIENCE_S

PLUGINS = (
    "anyio",
    "django",
    "fakefs",
    "pytest_httpx",
    "requests_mock",
    "respx",
    "socket",
    "time_machine",
    "xdist",
)
OPTIONS = (
    "--disable-socket",
    "--allow-hosts=127.0.0.1",
    "--ds=settings_of_django",
    "-o",
    "faulthandler_timeout=240",
)

SOURCE = '''
import datetime
import time

import anyio
import freezegun
import httpx
import pytest
import pytest_socket
import requests
import responses
import respx
import time_machine
import vcr

URL = "https://api.example.com/x"


@pytest.fixture
def asked(endpoint, webhook_sink):
    """Has a job done and its webhook called; returns the output."""

    def ask():
        endpoint.when().returns("ours", delay=20)
        job = endpoint.submit({"n": 1}, webhook=webhook_sink.url).wait(timeout_s=120)
        assert webhook_sink.wait(1, timeout_s=120)[0]["status"] == 200
        assert [request.operation for request in endpoint.requests] == ["run"]
        return job.output

    return ask


def test_pytest_httpx(httpx_mock, asked):
    httpx_mock.add_response(url=URL, json=1)
    assert (asked(), httpx.get(URL).json(), len(httpx_mock.get_requests())) == ("ours", 1, 1)


@respx.mock
def test_respx(asked):
    route = respx.get(URL).respond(json=1)
    assert (asked(), httpx.get(URL).json(), route.call_count) == ("ours", 1, 1)


def test_vcrpy(asked, tmp_path):
    with vcr.use_cassette(str(tmp_path / "cassette.yaml"), record_mode="new_episodes") as cassette:
        assert (asked(), len(cassette)) == ("ours", 0)


def test_requests_mock(requests_mock, asked):
    requests_mock.get(URL, json=1)
    assert (asked(), requests.get(URL).json()) == ("ours", 1)


@responses.activate
def test_responses(asked):
    responses.get(URL, json=1)
    assert (asked(), requests.get(URL).json()) == ("ours", 1)


@freezegun.freeze_time("2020-01-01")
def test_freezegun(asked):
    began_s = time.monotonic()
    assert (asked(), datetime.date.today().year, time.monotonic()) == ("ours", 2020, began_s)


@pytest.mark.emulator(handler="sleeps:handler")
def test_freezegun_and_a_handler_that_sleeps(endpoint):
    with freezegun.freeze_time("2020-01-01"):
        assert endpoint.runsync({"n": 1})["output"] == "slept"


def test_time_machine(asked):
    with time_machine.travel("2020-01-01", tick=False):
        assert (asked(), datetime.date.today().year) == ("ours", 2020)


def test_pyfakefs(fs, asked):
    fs.create_file("/made/up")
    assert asked() == "ours"


def test_pytest_socket(asked):
    with pytest.raises(pytest_socket.SocketConnectBlockedError):
        requests.get("http://127.0.0.2:9", timeout=1)
    assert asked() == "ours"


def test_pytest_django(settings, client, asked):
    settings.ALLOWED_HOSTS = ["testserver"]
    assert (asked(), client.get("/").status_code) == ("ours", 404)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_anyio(asked, anyio_backend):
    assert await anyio.to_thread.run_sync(asked) == "ours"

'''

SLEEPS = """
import asyncio

async def handler(job):
    await asyncio.sleep(0.02)
    return "slept"
"""
DJANGO = "SECRET_KEY = 'any'\nROOT_URLCONF = 'urls_of_django'\n"


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_fixtures_work_beside_them(pytester, monkeypatch, processes):
    for name, value in quick_pytest.VARIABLES.items():
        monkeypatch.setenv(name, value)
    pytester.makepyfile(
        test_beside=SOURCE, sleeps=SLEEPS, settings_of_django=DJANGO, urls_of_django="urlpatterns = []"
    )
    plugins = [word for plugin in PLUGINS for word in ("-p", plugin)]
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=":")
    result = pytester.runpytest_subprocess(
        *quick_pytest.ARGUMENTS, *plugins, *OPTIONS, *processes, timeout=PATIENCE_S
    )
    result.assert_outcomes(passed=13)
