"""Starts and ends workers on a cluster.

Each is a process on some node, which an actor starts (`node_worker.py`) and which speaks to the emulator over
HTTP like any worker (`api/worker_protocol.py`), through a door that lets workers alone in.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from emulator.core.events import WorkerLine
from emulator.workers.cluster.cluster import ClusterError
from emulator.workers.cluster.errand import Errand
from emulator.workers.start_failure import ending, port_hint, quoted, raised_in
from emulator.workers.worker_watch import WorkerWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.clock.clock import Clock
    from emulator.core.config import EndpointConfig
    from emulator.core.gateway import Gateway
    from emulator.workers.cluster.cluster import Cluster
    from emulator.workers.command import WorkerCommand
    from emulator.workers.environment import WireVariables

#: Real seconds from SIGTERM to SIGKILL for a worker that has nothing to do, and for one that does not let go.
_STOP_PATIENCE_S = 5.0
_KILL_PATIENCE_S = 2.0
#: Real seconds that the cluster gets beyond that, to say that a worker has gone.
_ANSWER_S = 10.0


class ClusterWorker:
    """One worker, from its cold start until nothing is left of it."""

    def __init__(self, worker_id: str) -> None:
        self.id = worker_id
        #: Its actor's number; None before it is asked for.
        self.number: int | None = None
        #: It waits for the end of its cold start.
        self.cold = False
        #: Why it was made to crash, if it was.
        self.crash_reason = ""
        #: The node it runs on; empty before it does.
        self.node = ""
        #: What it has written last.
        self.last_line = ""
        self.watch: WorkerWatch | None = None
        #: What was told of its end.
        self.gone: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()


class ClusterLauncher:
    """Starts and ends the workers of one endpoint on a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        command: WorkerCommand,
        config: EndpointConfig,
        variables: WireVariables,
        gateway: Gateway,
        clock: Clock,
    ) -> None:
        #: What its workers would run on this machine.
        self.command = command
        self.cluster = cluster
        #: The URL at which its workers reach the emulator.
        self.url = variables.url
        self._config = config
        self._errand = Errand.of(config, command)
        self._variables = variables
        self._gateway = gateway
        self._clock = clock
        self._workers: dict[str, ClusterWorker] = {}
        self._lives: dict[asyncio.Task[None], ClusterWorker] = {}

    def start(self, worker_id: str) -> None:
        """Begin a worker's cold start."""
        worker = self._workers[worker_id] = ClusterWorker(worker_id)
        task = asyncio.get_running_loop().create_task(self._live(worker))
        self._lives[task] = worker
        task.add_done_callback(self._lives.pop)

    def stop(self, worker_id: str) -> None:
        """End a worker that holds no job."""
        self._end(worker_id, _STOP_PATIENCE_S)

    def takes_real_time(self, worker_id: str) -> bool:
        """Whether it is on the cluster, or about to be: its cold start is over."""
        worker = self._workers.get(worker_id)
        return worker is not None and not worker.cold

    def park(self, worker_id: str) -> None:
        """It waits, and keeps its place."""

    def unpark(self, worker_id: str) -> None:
        """It has been waiting."""

    def crash(self, worker_id: str, reason: str) -> None:
        """SIGKILL, from nowhere: the end of the process is noticed as any other."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.number is not None:
            worker.crash_reason = reason
            self.cluster.tell(worker.number, "crash")

    def kill(self, worker_id: str) -> bool:
        """End a worker that does not let go of a job; that may take a while."""
        self._end(worker_id, _KILL_PATIENCE_S)
        return True

    async def close(self, patience_s: float) -> int:
        """End all workers, after `patience_s` real seconds by force; returns how many are left (none, unless
        the cluster does not answer).
        """
        for worker_id in list(self._workers):
            self._end(worker_id, patience_s)
        if self._lives:
            await asyncio.wait(self._lives, timeout=patience_s + _ANSWER_S)
        left = list(self._lives)
        for task in left:
            task.cancel()
        return len(left)

    def _end(self, worker_id: str, patience_s: float) -> None:
        worker = self._workers.pop(worker_id, None)
        if worker is None:
            return
        if worker.number is not None:
            self.cluster.tell(worker.number, "end", patience_s=patience_s)
            return
        for task in [task for task, of in self._lives.items() if of is worker]:
            task.cancel()

    async def _live(self, worker: ClusterWorker) -> None:
        if self._config.cold_start_ms:
            worker.cold = True
            await self._clock.sleep(self._config.cold_start_ms, "cold start", worker.id)
            worker.cold = False
        try:
            await self.cluster.connect()
        except ClusterError as error:
            reason = str(error)
        else:
            placement = self._config.placement
            order = {
                "id": worker.id,
                "kind": self._errand.kind,
                "words": self._errand.words,
                "folder": str(self._errand.folder),
                "variables": self._variables.of(worker.id),
                "extra": self._variables.extra,
                "num_cpus": placement.num_cpus,
                "num_gpus": placement.num_gpus,
                "resources": dict(placement.resources),
            }
            worker.number = self.cluster.start(order, lambda message: self._hear(worker, message))
            reason = self._reason(worker, await worker.gone)
        if worker.watch is not None:
            worker.watch.stop()
        if self._workers.get(worker.id) is worker:
            del self._workers[worker.id]
            self._gateway.crashed(worker.id, reason)
        else:
            self._gateway.ended(worker.id)

    def _hear(self, worker: ClusterWorker, message: dict[str, Any]) -> None:
        match message["event"]:
            case "started":
                worker.node = message["node"]
                worker.watch = self._watch(worker)
            case "wrote":
                lines = [WorkerLine(*line) for line in message["lines"]]
                written = (line.text for line in reversed(lines) if line.text.strip())
                worker.last_line = next(written, worker.last_line)
                self._gateway.wrote(worker.id, lines)
            case "waits":
                self._gateway.warn(
                    worker.id,
                    f"it waits for a place on {self.cluster}: it needs {self._config.placement}, and"
                    f" {message['reason']}",
                )
            case "gone":
                if not worker.gone.done():
                    worker.gone.set_result(message)

    def _watch(self, worker: ClusterWorker) -> WorkerWatch:
        return WorkerWatch(
            worker.id,
            self._gateway,
            init_timeout_s=self._variables.init_timeout_s() / max(1.0, self._clock.rate),
            last_line=lambda: worker.last_line,
            end=lambda reason: self.crash(worker.id, f"{reason} Can it reach {self.url}, where jobs are?"),
        )

    def _reason(self, worker: ClusterWorker, gone: dict[str, Any]) -> str:
        if worker.crash_reason:
            return worker.crash_reason
        if (code := gone["code"]) is None:
            on = f" (node {worker.node})" if worker.node else ""
            return f"{gone['reason']}{on}"
        lines: Sequence[str] = gone["last_lines"]
        how = f"{ending(code)}, on node {worker.node}"
        if self._gateway.is_up(worker.id):
            return how + quoted(lines) + port_hint(lines)
        if raised := raised_in(lines) if code == 1 else "":
            missing = raised.startswith("ModuleNotFoundError")
            return raised + (
                ": it must be there for the Ray of each node, or beside the handler" if missing else ""
            )
        if code == 0:
            how += " and never asked for a job: does it call runpod.serverless.start?"
        return how + quoted(lines)
