"""Workers that are processes of their own, as in production: killable, and isolated from one another.

They speak to the emulator over HTTP like any worker (`api/worker_protocol.py`); here they are started,
listened to and ended.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from emulator.workers.guard import NOT_KNOWN, descent_of, end_descent, end_group, end_strays
from emulator.workers.outside import OutsideLauncher, OutsideWorker
from emulator.workers.start_failure import ending, port_hint, quoted, start_failure
from emulator.workers.worker_output import WorkerOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from emulator.clock.clock import Clock
    from emulator.core.events import WorkerLine
    from emulator.core.gateway import Gateway
    from emulator.workers.command import WorkerCommand
    from emulator.workers.environment import WorkerEnvironment
    from emulator.workers.guard import Guard

#: Real seconds for the last output of a process that has ended.
_LAST_OUTPUT_S = 0.5
_T = TypeVar("_T")


class WorkerProcess(OutsideWorker, asyncio.SubprocessProtocol):
    """One process, from its cold start until nothing is left of it.

    Its exit is heard of as such: asyncio's own `Process.wait` may wait for the pipes as well, which a child
    can hold open.
    """

    def __init__(self, worker_id: str, wrote: Callable[[str, list[WorkerLine]], None]) -> None:
        super().__init__(worker_id)
        self.transport: asyncio.SubprocessTransport | None = None
        #: Its end has been asked for here: it is no crash.
        self.ending = False
        self.exited = asyncio.Event()
        #: Both its pipes are closed: all it wrote has been read.
        self.silent = asyncio.Event()
        self._wrote = wrote
        self._outputs = {1: WorkerOutput("stdout"), 2: WorkerOutput("stderr")}
        self._open_pipes = set(self._outputs)
        self._killer: asyncio.TimerHandle | None = None
        #: What it had started when it was told to end, wherever that has gone.
        self.descent: frozenset[tuple[int, str]] = frozenset()

    @property
    def process_id(self) -> int | None:
        """Its number; None before it is there and once it has ended."""
        transport = self.transport
        return None if transport is None or self.exited.is_set() else transport.get_pid()

    @property
    def last_lines(self) -> list[str]:
        """The last lines of its standard error."""
        return list(self._outputs[2].last_lines)

    def end(self, patience_s: float) -> None:
        """SIGTERM, and after `patience_s` real seconds SIGKILL for it and all it has started."""
        self.ending = True
        if self.process_id is None:
            return
        self._note_descent()
        self._signal(signal.SIGTERM)
        if self._killer is not None:
            self._killer.cancel()
        self._killer = asyncio.get_running_loop().call_later(patience_s, self.kill)

    def kill(self) -> None:
        """SIGKILL, at once."""
        self.ending = True
        if (process_id := self.process_id) is not None:
            self._note_descent()
            end_group(process_id)
            if sys.platform == "win32":
                self._signal(signal.SIGTERM)

    def close(self) -> None:
        """Let go of what is left of it here."""
        if self._killer is not None:
            self._killer.cancel()
        if self.transport is not None:
            self.transport.close()

    def crash(self) -> None:
        """SIGKILL, and as if it came from nowhere."""
        if (process_id := self.process_id) is not None:
            self._note_descent()
            end_group(process_id)

    def _note_descent(self) -> None:
        assert self.transport is not None
        self.descent |= descent_of(self.transport.get_pid())

    def _signal(self, number: signal.Signals) -> None:
        assert self.transport is not None
        # When it has just ended, and its exit is about to be noticed.
        with suppress(ProcessLookupError):
            self.transport.send_signal(number)

    # What asyncio tells

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It has written something."""
        lines = self._outputs[fd].feed(data)
        self.note(lines)
        self._wrote(self.id, lines)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """It has closed a pipe."""
        if fd in self._open_pipes:
            self._open_pipes.discard(fd)
            self._wrote(self.id, self._outputs[fd].close())
            if not self._open_pipes:
                self.silent.set()

    def process_exited(self) -> None:
        """It has ended; its children may be left."""
        self.exited.set()


class ProcessLauncher(OutsideLauncher[WorkerProcess]):
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
        super().__init__(gateway, clock, cold_start_ms=cold_start_ms)
        self.command = command
        self._environment = environment
        self._guard = guard

    def _make(self, worker_id: str) -> WorkerProcess:
        return WorkerProcess(worker_id, self._gateway.wrote)

    def crash(self, worker_id: str, reason: str) -> None:
        """SIGKILL, from nowhere: the end of the process is noticed as any other."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.process_id is not None:
            worker.crash_reason = reason
            worker.crash()

    def process_id(self, worker_id: str) -> int | None:
        """The number of a worker's process; None when it has none."""
        worker = self._workers.get(worker_id)
        return None if worker is None else worker.process_id

    async def close(self, patience_s: float) -> int:
        """End all workers, after `patience_s` real seconds by force; returns how many are left (none)."""
        self._let_go_of_all(patience_s)
        if self._lives:
            await asyncio.wait(self._lives, timeout=patience_s)
        for worker in self._lives.values():
            worker.kill()
        if self._lives:
            await asyncio.wait(self._lives)
        return 0

    def _end(self, worker: WorkerProcess, patience_s: float) -> None:
        worker.end(patience_s)
        if worker.transport is None:
            self._do_not_start(worker)

    async def _live(self, worker: WorkerProcess) -> str:
        try:
            process_id = await start_process(
                worker,
                self._guard,
                self.command.arguments,
                self.command.folder,
                self._environment.variables(worker.id),
            )
        except (OSError, ValueError) as error:
            return self._why_not_started(error)
        watch = self._watch(worker, self._environment.wire.init_timeout_s())
        await worker.exited.wait()
        watch.stop()
        await clear_away(worker, process_id, self._guard)
        reason = self._reason(worker)
        worker.close()
        return reason

    def _why_not_started(self, error: Exception) -> str:
        if not self.command.folder.is_dir():
            return f"its working folder {self.command.folder} is gone"
        return f"{self.command.program} cannot be started: {error}"

    def _reason(self, worker: WorkerProcess) -> str:
        assert worker.transport is not None
        if worker.crash_reason:
            return worker.crash_reason
        code = worker.transport.get_returncode() or 0
        if self._gateway.is_up(worker.id):
            return ending(code) + quoted(worker.last_lines) + port_hint(worker.last_lines)
        return start_failure(self.command, code, worker.last_lines)


async def start_process(
    worker: WorkerProcess,
    guard: Guard,
    arguments: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
) -> int:
    """Start a worker's process, seen to by a guard; returns its number.

    :raises OSError: it cannot be started; so does ValueError say.
    """
    guard.expect(worker.id)
    # The pipes and the new process must not be lost to a cancellation half-way.
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            lambda: worker,
            *arguments,
            cwd=folder,
            env=variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )
    try:
        transport, _ = await _see_through(starting)
    except (OSError, ValueError):
        guard.forget(worker.id, NOT_KNOWN)
        raise
    worker.transport, process_id = transport, transport.get_pid()
    guard.watch(worker.id, process_id)
    if worker.ending:
        worker.kill()
    return process_id


async def clear_away(worker: WorkerProcess, process_id: int, guard: Guard) -> None:
    """A worker's process has ended: end all that it has started, and read the last of what it wrote."""
    end_group(process_id)
    end_descent(worker.descent)
    # What has left the group may hold the pipes open; and it must be gone before a worker with the
    # same id is started.
    await asyncio.to_thread(end_strays, worker.id)
    guard.forget(worker.id, process_id)
    with suppress(TimeoutError):
        await asyncio.wait_for(worker.silent.wait(), _LAST_OUTPUT_S)


async def _see_through(starting: asyncio.Future[_T]) -> _T:
    """Its result, even if this task is cancelled meanwhile: its end is the caller's to see to."""
    while True:
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise
