"""A Ray cluster, from the emulator's side: `driver.py` is started, told and heard, and ended with it."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from emulator.workers.handler import HandlerError
from emulator.workers.reach import Reach, own_address
from emulator.workers.worker_output import WorkerOutput

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Mapping

log = logging.getLogger("emulator")

#: Runs this very package, wherever it is.
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r});"
    " from emulator.workers.cluster.driver import main; main()"
)
#: Nobody is told that Ray is used.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
#: Ray's word, on any system, for not listening where other machines could reach it.
_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
#: Real seconds for a cluster to answer, or for one of our own to start; and for the latter to end.
_CONNECT_S = 90.0
_CLOSE_S = 20.0
#: Real seconds for whoever is at an address to take a connection.
_KNOCK_S = 10.0
#: The most bytes of a line that is told.
_LINE_MAX = 2**26


class ClusterError(HandlerError):
    """The Ray cluster cannot be used: the message says why, and what to do."""


class Cluster:
    """The cluster at an address (`auto`, `ray://HOST:PORT`, `HOST:PORT`); None makes one on this machine."""

    def __init__(self, address: str | None) -> None:
        self.address = address
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._hearers: dict[int, Callable[[dict[str, Any]], None]] = {}
        self._numbers = itertools.count(1)
        #: What was told of it last.
        self._told: dict[str, Any] = {}

    @property
    def is_own(self) -> bool:
        """Whether it is one on this machine, which ends with the emulator."""
        return self.address is None

    def __str__(self) -> str:
        where = "a Ray cluster of its own" if self.address is None else f"the Ray cluster at {self.address}"
        has = ", ".join(f"{amount:g} {name}" for name, amount in self._told.get("resources", {}).items())
        return f"{where} ({has})" if has else where

    async def connect(self) -> None:
        """Have it there; one that is, is left as it is.

        :raises ClusterError: it cannot be reached, or made.
        """
        async with self._connecting:
            if self._process is None:
                await self._start()

    async def _knock(self) -> None:
        """See whether anybody is there: Ray itself tries for long, and says little.

        :raises ClusterError: nobody is.
        """
        address = self.address or ""
        parts = urlsplit(address if "://" in address else f"//{address}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if host is None or port is None:
            # It is one of this machine, or Ray is to find it.
            return
        try:
            async with asyncio.timeout(_KNOCK_S):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError) as error:
            raise ClusterError(self._why_not(f"nobody answers there ({error or 'no word'})")) from None
        writer.close()

    async def _start(self) -> None:
        await self._knock()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-c",
            _PROGRAM,
            self.address or "",
            # Ray has its processes import from where its driver is: not from the user's folder.
            cwd=sys.prefix,
            env={**os.environ, **_QUIET, **(_ON_LOOPBACK if self.is_own else {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_MAX,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        errors = WorkerOutput("stderr")
        listening = asyncio.create_task(_listen(process.stderr, errors))
        try:
            async with asyncio.timeout(_CONNECT_S):
                told = json.loads(await process.stdout.readline() or "{}")
        except TimeoutError:
            await _end(process, listening)
            raise ClusterError(f"{self} does not answer within {_CONNECT_S:g} s{self._hint}") from None
        except BaseException:
            await _end(process, listening)
            raise
        if told.get("event") != "ready":
            await _end(process, listening)
            reason = told.get("reason") or " ".join(list(errors.last_lines)[-1:])
            raise ClusterError(self._why_not(reason))
        self._told, self._process = told, process
        self._reading = asyncio.create_task(self._read(process, errors, listening))

    def _why_not(self, reason: str) -> str:
        if "needs the extra" in reason:
            return reason
        what = "cannot be started" if self.is_own else "cannot be used"
        return f"{self} {what}{self._hint}: {reason}"

    @property
    def _hint(self) -> str:
        if self.is_own:
            return ""
        return " (is it up, is this its address, and is Ray of the same version here and there?)"

    def reach(self) -> Reach:
        """How its nodes reach this machine.

        :raises ClusterError: it cannot be found out.
        """
        address = str(self._told["own_address"])
        if not address:
            host = urlsplit(self.address or "").hostname
            address = (own_address(host) or "") if host else ""
        if not address:
            raise ClusterError(
                "it cannot be found out at which address the cluster's nodes reach this emulator: give one"
                " with --worker-address"
            )
        return Reach.by(address)

    def start(self, order: Mapping[str, object], hear: Callable[[dict[str, Any]], None]) -> int:
        """Have an actor started; returns its number. `hear` is told what becomes of it, `gone` at the end."""
        number = next(self._numbers)
        self._hearers[number] = hear
        self.tell(number, "start", **order)
        return number

    def tell(self, number: int, do: str, **more: object) -> None:
        """Tell the driver what is to become of an actor."""
        if self._process is None or self._process.stdin is None or self._process.stdin.is_closing():
            # That it has ended is heard by all.
            return
        self._process.stdin.write(json.dumps({"do": do, "worker": number, **more}).encode() + b"\n")

    async def close(self) -> None:
        """Let go of it; one of its own ends, with all that runs there."""
        process, reading = self._process, self._reading
        if process is None or reading is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        done, _ = await asyncio.wait({reading}, timeout=_CLOSE_S)
        if not done:
            log.warning("Ray has not ended within %g s, and is ended by force", _CLOSE_S)
            with suppress(ProcessLookupError):
                process.kill()
            await reading

    async def _read(self, process: Process, errors: WorkerOutput, listening: asyncio.Task[None]) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            message = json.loads(line)
            number = message["worker"]
            if (hear := self._hearers.get(number)) is not None:
                if message["event"] == "gone":
                    del self._hearers[number]
                hear(message)
        await process.wait()
        await listening
        self._process = self._reading = None
        hearers, self._hearers = self._hearers, {}
        wrote = " ".join(list(errors.last_lines)[-1:])
        for hear in hearers.values():
            reason = f"the cluster is out of reach: Ray's driver has ended{f' ({wrote})' if wrote else ''}"
            hear({"event": "gone", "code": None, "last_lines": [], "reason": reason})


async def _listen(stderr: asyncio.StreamReader, errors: WorkerOutput) -> None:
    while data := await stderr.read(65536):
        for line in errors.feed(data):
            log.debug("ray: %s", line.text)


async def _end(process: Process, listening: asyncio.Task[None]) -> None:
    """End a driver that has connected to nothing."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    await asyncio.wait({listening}, timeout=1)
    listening.cancel()
