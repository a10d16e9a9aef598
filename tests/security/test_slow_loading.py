"""Code that is loaded, and interpreters that are asked, hold nobody up (attack.md 15)."""

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from emulator.workers import off_loop, preflight
from tests.api.client import served
from tests.cli.command import environment
from tests.limits import PATIENCE_S

pytestmark = pytest.mark.anyio

SYNC = "def handler(job):\n    return 'new'\n"
ASYNC = f"async {SYNC}"
KINDS = ["sync", "async", "process"]


@contextmanager
def blocking(folder, kind):
    """The settings of an endpoint whose code is not loaded before the body ends."""
    os.mkfifo(folder / "gate")
    writer = threading.Thread(target=lambda: ends.append(os.open(folder / "gate", os.O_WRONLY)), daemon=True)
    ends: list[int] = []
    waits = f"with open({str(folder / 'gate')!r}) as gate:\n    gate.read()\n"
    handler = folder / "slow.py"
    settings = {"handler": f"{handler}:handler", "worker_kind": "process" if kind == "process" else "inline"}
    if kind == "process":
        (folder / "python").write_text(
            f'#!/bin/sh\ncat {shlex.quote(str(folder / "gate"))}\nexec {shlex.quote(sys.executable)} "$@"\n'
        )
        (folder / "python").chmod(0o755)
        settings["python"] = str(folder / "python")
        handler.write_text("import runpod\nrunpod.serverless.start({'handler': lambda job: 'new'})\n")
        settings["handler"] = str(handler)
    else:
        handler.write_text(waits + (SYNC if kind == "sync" else ASYNC))
    writer.start()
    try:
        # It has been opened, so it is being read.
        yield settings, writer
    finally:
        # What is given up may never have come to read it; nor is it to later.
        while writer.is_alive():
            os.close(os.open(folder / "gate", os.O_RDONLY | os.O_NONBLOCK))
            writer.join(0.01)
        (folder / "gate").unlink()
        for end in ends:
            os.close(end)


async def control(client, method, path, **options):
    answer = await client.http.request(method, f"/_emulator{path}", **options)
    return answer.status_code, answer.json()


async def reads(writer):
    await asyncio.to_thread(writer.join, PATIENCE_S)
    assert not writer.is_alive()


@pytest.mark.parametrize("kind", KINDS)
async def test_others_are_served_while_an_endpoint_is_made(kind, tmp_path):
    async with served(options={"code_over_http": True}) as client:
        with blocking(tmp_path, kind) as (settings, writer):
            making = asyncio.create_task(
                client.http.put("/_emulator/endpoints/slow", json=settings, timeout=PATIENCE_S)
            )
            await reads(writer)
            assert (await client.runsync())["status"] == "COMPLETED"
            assert (await client.http.get("/v2/slow/health")).status_code == 404
            assert not making.done()
        assert (await making).status_code == 200
        if kind != "process":
            answer = await client.http.post("/v2/slow/runsync", json={"input": 1})
            assert answer.json()["output"] == "new"


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_never_loaded_is_given_up_with_a_sentence(kind, tmp_path, monkeypatch):
    if kind == "process":
        monkeypatch.setattr(preflight, "_PROBE_PATIENCE_S", 0.02)
    else:
        monkeypatch.setattr(off_loop, "SLOW_S", 0.01)
        monkeypatch.setattr(off_loop, "LOADING_PATIENCE_S", 0.02)
    async with served(options={"code_over_http": True}) as client:
        with blocking(tmp_path, kind) as (settings, _):
            status, body = await control(client, "PUT", "/endpoints/slow", json=settings)
            assert status == 400
            told = "has not ended after 0.02 s" if kind == "process" else "has not been loaded after 0.02 s"
            assert told in body["error"]["message"]
        assert "slow" not in client.emulator.endpoint_ids


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_others_are_served_while_saved_code_is_loaded(kind, tmp_path):
    file = tmp_path / "slow.py"
    file.write_text((SYNC if kind == "sync" else ASYNC).replace("new", "old"))
    async with served(f"{file}:handler", workers_max=1) as client:
        with blocking(tmp_path, kind) as (_, writer):
            reloading = asyncio.create_task(client.emulator.reload("ep"))
            await reads(writer)
            assert (await client.runsync())["output"] == "old"
        await reloading
        assert (await client.runsync())["output"] == "new"


async def test_an_endpoint_that_is_taken_away_while_its_code_is_loaded_stays_away(tmp_path):
    (tmp_path / "slow.py").write_text(SYNC)
    async with served(f"{tmp_path / 'slow.py'}:handler") as client:
        await control(client, "PUT", "/endpoints/other", json={})
        with blocking(tmp_path, "sync") as (_, writer):
            reloading = asyncio.create_task(client.emulator.reload("ep"))
            await reads(writer)
            await control(client, "DELETE", "/endpoints/ep")
        assert await reloading is False
        assert client.emulator.endpoint_ids == ["other"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_while_it_is_being_started(number, tmp_path):
    """The loop stood still until the handler was there."""
    with blocking(tmp_path, "sync") as (settings, writer):
        arguments = [settings["handler"], "--port", "0", "--worker-kind", "inline"]
        process = subprocess.Popen(
            [sys.executable, "-m", "emulator", "serve", *arguments],
            cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        writer.join(PATIENCE_S)
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "GeneratorExit", "SystemExit(3)"])
async def test_what_code_raises_while_it_is_loaded_ends_nothing(raised, tmp_path):
    (tmp_path / "h.py").write_text(f"raise {raised}\n{ASYNC}")
    settings = {"handler": f"{tmp_path / 'h.py'}:handler", "worker_kind": "inline"}
    async with served(options={"code_over_http": True}) as client:
        status, body = await control(client, "PUT", "/endpoints/x", json=settings)
        assert (status, body["error"]["code"]) == (400, "handler_error")
        assert (await client.runsync())["status"] == "COMPLETED"
