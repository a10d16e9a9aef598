"""A worker on a node: the actor that starts its process, listens to it and ends it.

It runs in a process of Ray's, to which this package has been sent: nothing but it and the standard library
is there.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from emulator.workers.environment import process_variables
from emulator.workers.guard import Guard
from emulator.workers.process import WorkerProcess, clear_away, start_process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from emulator.core.events import WorkerLine

#: A line's text and stream, the job that it names, and its level.
Line: TypeAlias = tuple[str, str, str | None, str | None]
#: The exit code of a process that has ended (negative: a signal), and the last lines of its standard error.
Ended: TypeAlias = tuple[int, list[str]]

_RUNNER = str(Path(__file__).parent.with_name("runner.py"))
#: What Ray unpacks for its processes is below a folder of this name.
_OF_RAY = "runtime_resources"
#: The most lines in one answer.
_LINES_AT_ONCE = 500


class NodeWorker:
    """One worker, from the start of its process until nothing is left of that."""

    def __init__(self) -> None:
        self._guard = Guard()
        self._worker: WorkerProcess | None = None
        self._lines: list[Line] = []
        self._ended: Ended | None = None
        self._has_news = asyncio.Event()
        self._seeing_out: asyncio.Task[None] | None = None

    async def start(
        self,
        worker_id: str,
        kind: str,
        words: Sequence[str],
        variables: Mapping[str, str],
        extra: Mapping[str, str],
    ) -> str:
        """Start the process; returns the node's name. `extra` are the variables that the user adds.

        :raises OSError: it cannot be started.
        """
        _leave_out_what_is_rays()
        folder, home = Path.cwd(), str(Path(sys.executable).parent)
        self._worker = WorkerProcess(worker_id, self._hear)
        process_id = await start_process(
            self._worker,
            self._guard,
            _arguments(kind, words),
            folder,
            process_variables(
                variables,
                extra,
                path=os.pathsep.join((home, os.environ.get("PATH", os.defpath))),
                folder=folder,
                state_folder=self._guard.folder_of(worker_id),
            ),
        )
        self._seeing_out = asyncio.create_task(self._see_out(self._worker, process_id))
        return socket.gethostname()

    async def news(self) -> tuple[list[Line], Ended | None]:
        """What it has written since this was last asked, and how it has ended if it has; waits for either."""
        await self._has_news.wait()
        lines, self._lines = self._lines[:_LINES_AT_ONCE], self._lines[_LINES_AT_ONCE:]
        ended = None if self._lines else self._ended
        if not self._lines and ended is None:
            self._has_news.clear()
        return lines, ended

    async def end(self, patience_s: float) -> None:
        """SIGTERM, and after `patience_s` real seconds SIGKILL for it and all it has started."""
        assert self._worker is not None
        self._worker.end(patience_s)

    async def crash(self) -> None:
        """SIGKILL, at once."""
        assert self._worker is not None
        self._worker.crash()

    def _hear(self, _worker_id: str, lines: list[WorkerLine]) -> None:
        if lines:
            self._lines += [(line.text, line.stream, line.job_id, line.level) for line in lines]
            self._has_news.set()

    async def _see_out(self, worker: WorkerProcess, process_id: int) -> None:
        await worker.exited.wait()
        await clear_away(worker, process_id, self._guard)
        assert worker.transport is not None
        self._ended = (worker.transport.get_returncode() or 0, worker.last_lines)
        worker.close()
        self._guard.close()
        self._has_news.set()


def _arguments(kind: str, words: Sequence[str]) -> list[str]:
    """The command line, with the interpreter of this node."""
    if kind == "function":
        return [sys.executable, "-u", _RUNNER, *words]
    if kind == "script":
        return [sys.executable, "-u", *words]
    program, *others = words
    return [sys.executable if program in ("python", "python3") else program, *others]


def _leave_out_what_is_rays() -> None:
    """Ray has put the folders that it has unpacked on the PYTHONPATH: in production a worker has none."""
    folders = os.environ.pop("PYTHONPATH", "").split(os.pathsep)
    if own := [folder for folder in folders if folder and _OF_RAY not in Path(folder).parts]:
        os.environ["PYTHONPATH"] = os.pathsep.join(own)
