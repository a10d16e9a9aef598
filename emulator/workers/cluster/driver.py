"""The program that speaks to a Ray cluster for an emulator: Ray's driver.

It is a process of its own because a driver is one: it has Ray's threads and signal handlers, its calls may
block, and Ray ends it when its cluster has gone. Orders come as lines of JSON on its standard input, and
what is to be told goes out as lines of JSON. When its input ends, so do the workers and a cluster of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.workers.cluster.node_worker import NodeWorker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

log = logging.getLogger("emulator.driver")

_EXTRA = "worker_kind 'ray' needs the extra ray: python -m pip install 'runpod-emulator[ray]'"
#: Of a cluster of its own: nothing is kept in it.
_STORE_BYTES = 100_000_000
#: Real seconds after which it is told why a worker has no place yet.
_SLOW_PLACE_S = 10.0
#: What of a folder is not sent, beside what its .gitignore and .rayignore say: what others have written.
_NOT_SENT = [".*/", "__pycache__/", "node_modules/", "site-packages/", "venv/"]
#: What of this package workers on nodes do not need.
_NOT_OF_WORKERS = ["__pycache__/", "console/", "cli/", "api/", "serving/", "ledger/", "s3/"]
_TOLD_MAX = 300
#: Ray's variable for how long it holds what is sent and nobody uses.
_HOLDS_FOR_S = "RAY_RUNTIME_ENV_TEMPORARY_REFERENCE_EXPIRATION_S"
#: How often Ray's client tries to get a server of its own.
_TRIES = 2


class Driver:
    """Starts and ends actors on a cluster that it is connected to, as it is told."""

    def __init__(self, ray: Any, out: TextIO) -> None:
        self._ray = ray
        self._out = out
        self._actor_class = ray.remote(NodeWorker)
        self._lives: dict[int, asyncio.Task[None]] = {}
        self._actors: dict[int, Any] = {}
        #: The workers whose process has been started.
        self._started: set[int] = set()
        #: Those that are to end.
        self._ending: set[int] = set()
        self._orders: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Do as it is told, until there is nobody any more who would."""
        orders = asyncio.StreamReader(limit=2**26)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
        )
        while line := await orders.readline():
            order = json.loads(line)
            number = order["worker"]
            if order["do"] == "start":
                self._lives[number] = asyncio.create_task(self._live(number, order))
            else:
                task = asyncio.create_task(self._obey(number, order))
                self._orders.add(task)
                task.add_done_callback(self._orders.discard)
        for number in list(self._lives):
            self._ending.add(number)
            await self._let_go(number)
        if self._lives:
            await asyncio.wait(self._lives.values())

    def tell(self, event: str, **more: object) -> None:
        """Say something to the emulator, if it is there."""
        with suppress(BrokenPipeError):
            self._out.write(json.dumps({"event": event, **more}) + "\n")
            self._out.flush()

    async def _live(self, number: int, order: Mapping[str, Any]) -> None:
        ended, reason = None, ""
        try:
            actor = self._actors[number] = await asyncio.to_thread(self._make, order)
            if number not in self._ending:
                node = await self._placed(number, order, actor)
                self._started.add(number)
                self.tell("started", worker=number, node=node)
                if number in self._ending:
                    await actor.end.remote(0)
                while ended is None:
                    lines, ended = await actor.news.remote()
                    if lines:
                        self.tell("wrote", worker=number, lines=lines)
        except Exception as error:  # whatever Ray, or the node, has to say
            log.debug("worker %d", number, exc_info=True)
            reason = _told(error)
        await self._let_go(number)
        code, last_lines = ended or (None, [])
        self.tell("gone", worker=number, code=code, last_lines=last_lines, reason=reason)
        if reason and not self._ray.is_initialized():
            # It is connected to nothing any more: the emulator starts another one.
            os._exit(1)
        del self._lives[number]
        self._started.discard(number)
        self._ending.discard(number)

    def _make(self, order: Mapping[str, Any]) -> Any:
        """An actor; it waits for a place."""
        environment = {
            "working_dir": _sent(Path(order["folder"]), _NOT_SENT),
            "py_modules": [_sent(Path(__file__).parents[2], _NOT_OF_WORKERS, with_its_name=True)],
        }
        return self._actor_class.options(
            num_cpus=order["num_cpus"],
            num_gpus=order["num_gpus"],
            resources=order["resources"],
            runtime_env=environment,
            max_restarts=0,
        ).remote()

    async def _placed(self, number: int, order: Mapping[str, Any], actor: Any) -> str:
        """The node on which a worker's process has been started."""
        starting = asyncio.wrap_future(
            actor.start.remote(
                order["id"], order["kind"], order["words"], order["variables"], order["extra"]
            ).future()
        )
        if not (await asyncio.wait({starting}, timeout=_SLOW_PLACE_S))[0]:
            self.tell("waits", worker=number, reason=await asyncio.to_thread(self._why_it_waits, order))
        return str(await starting)

    def _why_it_waits(self, order: Mapping[str, Any]) -> str:
        needed = {"CPU": order["num_cpus"], "GPU": order["num_gpus"], **order["resources"]}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(_has(node, needed) for node in nodes):
            return f"none of its {len(nodes)} nodes has that much"
        if not _has(self._ray.available_resources(), needed):
            return "others have it"
        return "a node is being prepared for it"

    async def _obey(self, number: int, order: Mapping[str, Any]) -> None:
        if number not in self._lives:
            return
        if order["do"] == "end":
            self._ending.add(number)
        with suppress(Exception):  # it has gone by itself
            if number not in self._started:
                await self._let_go(number)
            elif order["do"] == "end":
                await self._actors[number].end.remote(order["patience_s"])
            else:
                await self._actors[number].crash.remote()

    async def _let_go(self, number: int) -> None:
        """End an actor, be it there, waiting for a place, or gone."""
        if (actor := self._actors.pop(number, None)) is not None:
            with suppress(Exception):  # nothing of it is left, or the cluster has gone
                await asyncio.to_thread(self._ray.kill, actor)


def _sent(folder: Path, excludes: list[str], *, with_its_name: bool = False) -> str:
    """The URI of a folder that has been sent to the cluster, as it is now; what is there is not sent again.

    Ray does so by itself for the folder of a whole driver alone, which cannot be changed later.
    """
    from ray._private.runtime_env.packaging import get_uri_for_directory, upload_package_if_needed

    # Of this package nothing is ignored, wherever it is installed.
    read_gitignore = not with_its_name and os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"
    uri: str = get_uri_for_directory(str(folder), include_gitignore=read_gitignore, excludes=excludes)
    with tempfile.TemporaryDirectory(prefix="runpod-emulator-") as scratch:
        upload_package_if_needed(
            uri,
            scratch,
            str(folder),
            include_gitignore=read_gitignore,
            include_parent_dir=with_its_name,
            excludes=excludes,
            logger=log,
        )
    return uri


def _has(there: Mapping[str, float], needed: Mapping[str, float]) -> bool:
    return all(there.get(name, 0) >= amount for name, amount in needed.items())


def _told(error: BaseException) -> str:
    """What Ray says of an error, in a sentence."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    # Of a traceback that is a part of it, the last line says what it is.
    plain = plain.rpartition("\n")[2] if "Traceback (most recent call last)" in plain else plain
    text = " ".join(plain.split())
    if "node has died" in text or "node was terminated" in text:
        return "its node has died"
    if "worker process has died" in text or "UNAVAILABLE" in text or "ActorUnavailable" in repr(error):
        return "its node, or Ray's process on it, has died"
    return f"{type(error).__name__}: {text}"[:_TOLD_MAX]


def _connect(ray: Any, address: str) -> dict[str, object]:
    """Connect to a cluster, or make one; returns what there is to tell of it.

    :raises Exception: it cannot be; which kind, Ray does not say.
    """
    if not address:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    else:
        for tries_left in reversed(range(_TRIES)):
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
                break
            except ConnectionAbortedError:
                # The server that Ray starts for each client ends now and then as soon as it is started.
                if not tries_left:
                    raise
    if client := address.startswith("ray://"):
        # What is sent is not held for those who may ask for it later: Ray's client cannot do that, and would
        # try for ever.
        os.environ[_HOLDS_FOR_S] = "0"
    return {
        "version": ray.__version__,
        "nodes": sum(node["Alive"] for node in ray.nodes()),
        "resources": {
            name: amount
            for name, amount in ray.cluster_resources().items()
            if not name.startswith(("node:", "memory", "object_store_memory", "accelerator_type:"))
        },
        "own_address": "" if client else ray.util.get_node_ip_address(),
    }


def main() -> None:
    """Serve the emulator that has started this program."""
    # What Ray prints must not get between what is told.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def fail(reason: str) -> None:
        out.write(json.dumps({"event": "failed", "reason": reason}) + "\n")
        out.flush()

    # The emulator has it in its log, for who asks for debug.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.DEBUG)
    try:
        import ray
    except ImportError:
        fail(_EXTRA)
        return
    try:
        told = _connect(ray, sys.argv[1])
    except Exception as error:
        fail(_told(error))
        return
    driver = Driver(ray, out)
    driver.tell("ready", **told)
    try:
        asyncio.run(driver.run())
    finally:
        ray.shutdown()
