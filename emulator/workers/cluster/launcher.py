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
from emulator.workers.outside import OutsideLauncher, OutsideWorker
from emulator.workers.start_failure import ending, port_hint, quoted, raised_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.clock.clock import Clock
    from emulator.core.config import EndpointConfig
    from emulator.core.gateway import Gateway
    from emulator.workers.cluster.cluster import Cluster
    from emulator.workers.command import WorkerCommand
    from emulator.workers.environment import WireVariables
    from emulator.workers.worker_watch import WorkerWatch

#: Real seconds that the cluster gets beyond a worker's patience, to say that it has gone.
_ANSWER_S = 10.0


class ClusterWorker(OutsideWorker):
    """One worker, from its cold start until nothing is left of it."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(worker_id)
        #: Its actor's number; None before it is asked for.
        self.number: int | None = None
        #: The node it runs on; empty before it does.
        self.node = ""
        self.watch: WorkerWatch | None = None
        #: What was told of its end.
        self.gone: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()


class ClusterLauncher(OutsideLauncher[ClusterWorker]):
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
        super().__init__(gateway, clock, cold_start_ms=config.cold_start_ms)
        #: What its workers would run on this machine.
        self.command = command
        self.cluster = cluster
        #: The URL at which its workers reach the emulator.
        self.url = variables.url
        self._config = config
        self._errand = Errand.of(config, command)
        self._variables = variables

    def _make(self, worker_id: str) -> ClusterWorker:
        return ClusterWorker(worker_id)

    def crash(self, worker_id: str, reason: str) -> None:
        """SIGKILL, from nowhere: the end of the process is noticed as any other."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.number is not None:
            worker.crash_reason = reason
            self.cluster.tell(worker.number, "crash")

    async def close(self, patience_s: float) -> int:
        """End all workers, after `patience_s` real seconds by force; returns how many are left (none, unless
        the cluster does not answer).
        """
        self._let_go_of_all(patience_s)
        if self._lives:
            await asyncio.wait(self._lives, timeout=patience_s + _ANSWER_S)
        left = list(self._lives)
        for task in left:
            task.cancel()
        return len(left)

    def _end(self, worker: ClusterWorker, patience_s: float) -> None:
        if worker.number is None:
            self._do_not_start(worker)
        else:
            self.cluster.tell(worker.number, "end", patience_s=patience_s)

    async def _live(self, worker: ClusterWorker) -> str:
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
        return reason

    def _hear(self, worker: ClusterWorker, message: dict[str, Any]) -> None:
        match message["event"]:
            case "started":
                worker.node = message["node"]
                hint = f" Can it reach {self.url}, where jobs are?"
                worker.watch = self._watch(worker, self._variables.init_timeout_s(), hint)
            case "wrote":
                lines = [WorkerLine(*line) for line in message["lines"]]
                worker.note(lines)
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
