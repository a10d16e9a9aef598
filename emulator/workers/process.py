"""Workers that are processes of their own, as in production: killable, and isolated from one another.

They speak to the emulator over HTTP like any worker (`api/worker_protocol.py`); here they are started,
listened to and ended.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from emulator.workers.guard import end_group, end_strays
from emulator.workers.worker_output import WorkerOutput

if TYPE_CHECKING:
    from emulator.core.clock import Clock
    from emulator.core.gateway import Gateway
    from emulator.workers.command import WorkerCommand, WorkerEnvironment
    from emulator.workers.guard import Guard

#: Real seconds from SIGTERM to SIGKILL for a worker that has nothing to do, and for one that does not let go.
_STOP_PATIENCE_S = 5.0
_KILL_PATIENCE_S = 2.0
#: Real seconds for the last output of a process that has ended.
_LAST_OUTPUT_S = 0.5
_READ_BYTES = 256 * 1024
#: How much of what a worker wrote last is quoted as the reason of its end.
_LINES_QUOTED = 5


class WorkerProcess:
    """One process, from its cold start until nothing is left of it."""

    def __init__(self, worker_id: str) -> None:
        self.id = worker_id
        self.process: asyncio.subprocess.Process | None = None
        #: Its end has been asked for here: it is no crash.
        self.ending = False
        self._killer: asyncio.TimerHandle | None = None

    def end(self, patience_s: float) -> None:
        """SIGTERM, and after `patience_s` real seconds SIGKILL for it and all it has started."""
        self.ending = True
        if self.process is None or self.process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        if self._killer is not None:
            self._killer.cancel()
        self._killer = asyncio.get_running_loop().call_later(patience_s, self.kill)

    def kill(self) -> None:
        """SIGKILL, at once."""
        self.ending = True
        if self.process is not None and self.process.returncode is None:
            end_group(self.process.pid)
            if sys.platform == "win32":
                self._signal(signal.SIGTERM)

    def ended(self) -> None:
        """It is gone: nobody need be killed any more."""
        if self._killer is not None:
            self._killer.cancel()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        # When it has just ended, and its exit is about to be noticed.
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


class ProcessLauncher:
    """Starts and ends the worker processes of one endpoint."""

    def __init__(
        self,
        command: WorkerCommand,
        environment: WorkerEnvironment,
        gateway: Gateway,
        clock: Clock,
        guard: Guard,
        *,
        cold_start_ms: int,
    ) -> None:
        self.command = command
        self._environment = environment
        self._gateway = gateway
        self._clock = clock
        self._guard = guard
        self._cold_start_ms = cold_start_ms
        self._processes: dict[str, WorkerProcess] = {}
        self._tasks: dict[asyncio.Task[None], WorkerProcess] = {}

    def start(self, worker_id: str) -> None:
        """Begin a worker's cold start."""
        worker = self._processes[worker_id] = WorkerProcess(worker_id)
        task = asyncio.get_running_loop().create_task(self._live(worker))
        self._tasks[task] = worker
        task.add_done_callback(self._tasks.pop)

    def stop(self, worker_id: str) -> None:
        """End a worker that holds no job."""
        self._end(worker_id, _STOP_PATIENCE_S)

    def kill(self, worker_id: str) -> bool:
        """End a worker that does not let go of a job, with all it has started; that may take a while."""
        self._end(worker_id, _KILL_PATIENCE_S)
        return True

    def process_id(self, worker_id: str) -> int | None:
        """The number of a worker's process; None when it has none."""
        worker = self._processes.get(worker_id)
        return None if worker is None or worker.process is None else worker.process.pid

    async def close(self, patience_s: float) -> int:
        """End all workers, after `patience_s` real seconds by force; returns how many are left (none)."""
        for worker_id in list(self._processes):
            self._end(worker_id, patience_s)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience_s)
        for worker in self._tasks.values():
            worker.kill()
        if self._tasks:
            await asyncio.wait(self._tasks)
        return 0

    def _end(self, worker_id: str, patience_s: float) -> None:
        worker = self._processes.pop(worker_id, None)
        if worker is None:
            return
        worker.end(patience_s)
        if worker.process is None:
            for task in [task for task, of in self._tasks.items() if of is worker]:
                task.cancel()

    async def _live(self, worker: WorkerProcess) -> None:
        if self._cold_start_ms:
            await self._clock.sleep(self._cold_start_ms, "cold start")
        process = await self._start_process(worker)
        if process is None:
            return
        assert process.stdout is not None
        assert process.stderr is not None
        outputs = {name: WorkerOutput(name) for name in ("stdout", "stderr")}
        readers = [
            asyncio.ensure_future(self._read(worker.id, stream, outputs[name]))
            for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        await process.wait()
        worker.ended()
        end_group(process.pid)
        # What has left the group may hold the pipes open; and it must be gone before a worker with the
        # same id is started.
        await asyncio.to_thread(end_strays, worker.id)
        self._guard.forget(worker.id, process.pid)
        await asyncio.wait(readers, timeout=_LAST_OUTPUT_S)
        if self._processes.get(worker.id) is worker:
            del self._processes[worker.id]
            self._gateway.crashed(
                worker.id, self._reason(worker.id, process.returncode or 0, outputs["stderr"])
            )
        else:
            self._gateway.ended(worker.id)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    async def _start_process(self, worker: WorkerProcess) -> asyncio.subprocess.Process | None:
        # The pipes and the new process must not be lost to a cancellation half-way.
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self.command.arguments,
                cwd=self.command.folder,
                env=self._environment.variables(worker.id),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        )
        try:
            process = await _see_through(starting)
        except (OSError, ValueError) as error:
            if self._processes.get(worker.id) is worker:
                del self._processes[worker.id]
                self._gateway.crashed(worker.id, f"{self.command.python} cannot be started: {error}")
            return None
        worker.process = process
        self._guard.watch(worker.id, process.pid)
        if worker.ending:
            worker.kill()
        return process

    async def _read(self, worker_id: str, stream: asyncio.StreamReader, output: WorkerOutput) -> None:
        while data := await stream.read(_READ_BYTES):
            self._gateway.wrote(worker_id, output.feed(data))
        self._gateway.wrote(worker_id, output.close())

    def _reason(self, worker_id: str, code: int, stderr: WorkerOutput) -> str:
        reason = f"its process ended with exit code {code}"
        if code < 0:
            name = _signal_name(-code)
            reason = f"its process was killed by {name}"
            reason += " (was it out of memory?)" if name == "SIGKILL" else ""
        elif code == 0 and self.command.is_script and not self._gateway.is_up(worker_id):
            reason += (
                " and never asked for a job: does the script call runpod.serverless.start({'handler': …})?"
                f" To serve one of its functions, name it: {self.command.name}:handler"
            )
        if quoted := [line for line in stderr.last_lines if line.strip()][-_LINES_QUOTED:]:
            reason += "; it wrote: " + " | ".join(quoted)
        return reason


async def _see_through(
    starting: asyncio.Future[asyncio.subprocess.Process],
) -> asyncio.subprocess.Process:
    """The new process, even if this task is cancelled meanwhile: its end is the caller's to see to."""
    while True:
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
