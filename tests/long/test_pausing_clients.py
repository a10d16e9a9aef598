"""Clients that come back to a connection they have kept: no call is lost or comes twice (attack.md 18)."""

import asyncio
import http.client
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
import requests

from tests.conformance.js_client import node
from tests.conformance.served import environment
from tests.limits import PATIENCE_S
from tests.long.workers import emulated
from tests.workers.kinds import KEY

#: Around the times after which servers and clients are known to close what is idle.
PAUSES_S = [4.9, 5, 5.1, 15, 61, 76]
BODY = {"input": {"n": 1}}


def calls_with(pause_s):
    """How many calls fit into about a minute and a half, with a pause between any two."""
    return 4 if pause_s < 30 else 2


def paused(call, pause_s):
    """What so many calls give."""
    answers = [call()]
    for _ in range(calls_with(pause_s) - 1):
        time.sleep(pause_s)
        answers.append(call())
    return answers


def with_requests(url, pause_s):
    with requests.Session() as session:
        session.trust_env = False
        return paused(lambda: session.post(url, json=BODY, headers=KEY, timeout=PATIENCE_S).json(), pause_s)


def with_httpx(url, pause_s, **limits):
    with httpx.Client(trust_env=False, timeout=PATIENCE_S, limits=httpx.Limits(**limits)) as client:
        return paused(lambda: client.post(url, json=BODY, headers=KEY).json(), pause_s)


def with_patient_httpx(url, pause_s):
    return with_httpx(url, pause_s, keepalive_expiry=None)


def with_http_client(url, pause_s):
    """It neither looks whether its connection is still there nor tries again."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=PATIENCE_S)

    def call():
        headers = {**KEY, "content-type": "application/json"}
        connection.request("POST", place.path, json.dumps(BODY), headers)
        answer = json.loads(connection.getresponse().read())
        sockets.append(connection.sock)
        return answer

    sockets = []
    answers = paused(call, pause_s)
    connection.close()
    assert None not in sockets, "the emulator said that it would close the connection"
    assert len(set(sockets)) == 1
    return answers


def with_aiohttp(url, pause_s, sleep=asyncio.sleep, **connector):
    async def call_all():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(**connector)) as session:
            answers = []
            for number in range(calls_with(pause_s)):
                if number:
                    await sleep(pause_s)
                async with session.post(url, json=BODY, headers=KEY) as answer:
                    answers.append(await answer.json())
            return answers

    return asyncio.run(call_all())


def with_patient_aiohttp(url, pause_s):
    return with_aiohttp(url, pause_s, keepalive_timeout=3600)


async def sleep_in_the_loop(pause_s):
    """As a sync handler of the SDK's worker does: what happens to its connection is not seen meanwhile."""
    time.sleep(pause_s)


def with_blocked_aiohttp(url, pause_s):
    return with_aiohttp(url, pause_s, sleep_in_the_loop)


def with_blocked_patient_aiohttp(url, pause_s):
    return with_aiohttp(url, pause_s, sleep_in_the_loop, keepalive_timeout=3600)


def with_fetch(url, pause_s, way="fetch"):
    calls = calls_with(pause_s)
    program = Path(__file__).with_name("pausing.mjs")
    done = subprocess.run(
        [node(), str(program), way, url, KEY["authorization"], str(pause_s), str(calls)],
        env=environment(program.parent),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def with_node_agent(url, pause_s):
    return with_fetch(url, pause_s, "agent")


CLIENTS = {
    client.__name__.removeprefix("with_"): client
    for client in (
        with_requests,
        with_httpx,
        with_patient_httpx,
        with_http_client,
        with_aiohttp,
        with_patient_aiohttp,
        with_blocked_aiohttp,
        with_blocked_patient_aiohttp,
        with_fetch,
        with_node_agent,
    )
}


@pytest.fixture(scope="module")
def called():
    """Looks up what a client was answered, and its endpoint's jobs; all of them pause at once."""
    which = [(name, pause_s) for name in CLIENTS for pause_s in PAUSES_S]
    ids = {one: f"ep-{number}" for number, one in enumerate(which)}
    with emulated(dict.fromkeys(ids.values())) as emulator, ThreadPoolExecutor(len(which)) as pool:
        base = str(emulator.base_url).rstrip("/")
        answers = {
            (name, pause_s): pool.submit(CLIENTS[name], f"{base}/v2/{ids[name, pause_s]}/run", pause_s)
            for name, pause_s in which
        }

        def look_up(*one):
            bodies = answers[one].result(PATIENCE_S)
            for body in bodies:
                ended = emulator.get(f"/v2/{ids[one]}/status-sync/{body['id']}").json()
                assert ended["status"] == "COMPLETED", ended
            return bodies, emulator.get(f"/v2/{ids[one]}/health").json()["jobs"]

        yield look_up


@pytest.mark.parametrize("pause_s", PAUSES_S)
@pytest.mark.parametrize("client", CLIENTS)
def test_no_call_of_a_client_that_pauses_is_lost_or_repeated(called, client, pause_s):
    bodies, jobs = called(client, pause_s)
    assert len({body["id"] for body in bodies}) == calls_with(pause_s)
    assert jobs["completed"] == calls_with(pause_s)
    assert sum(jobs.values()) == calls_with(pause_s)
