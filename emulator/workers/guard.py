"""Ends every process of a worker, and the workers of an emulator that was killed itself.

Run as a program it stands beside the emulator: it is told over a pipe which workers there are, and when
the pipe breaks it ends them and removes what they leave on the disk. It is run by its path, so it imports
the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

#: Characters that a pipe takes at least before it is read.
_PIPE_TAKES = 4096
#: In place of the process group of a worker that is being started.
NOT_KNOWN = 0
#: Real seconds within which a new process has become the program it is to run.
_EXEC_S = 0.5


class Guard:
    """The program beside the emulator, from the emulator's side. Windows has no process groups to end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        #: Process group and id of the workers it is to know; kept for the next, should somebody kill it.
        self._watched: dict[tuple[int, str], None] = {}
        #: What workers leave, in a folder each.
        self._folder: Path | None = None

    def folder_of(self, worker_id: str) -> Path | None:
        """Where a worker may leave files until it has ended: a folder that nobody has made yet, in one that
        is ours alone. None when there is no place for it.
        """
        folder = self._own_folder()
        return None if folder is None else folder / worker_id

    def expect(self, worker_id: str) -> None:
        """A worker's process is about to be started: the emulator may be killed before it is watched."""
        self._change("+", NOT_KNOWN, worker_id)

    def watch(self, worker_id: str, group: int) -> None:
        """See to it that a worker does not outlive the emulator; `group` is its process group."""
        self._change("+", group, worker_id)
        self._change("-", NOT_KNOWN, worker_id)

    def forget(self, worker_id: str, group: int) -> None:
        """A worker has ended."""
        self._change("-", group, worker_id)
        if self._folder is not None:
            shutil.rmtree(self._folder / worker_id, ignore_errors=True)

    def close(self) -> None:
        """Let the program end; what it still watches is ended by it."""
        self._end_program()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _end_program(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()

    def _own_folder(self) -> Path | None:
        if self._folder is None:
            # Where nothing can be written, a worker cannot either.
            with suppress(OSError):
                self._folder = Path(tempfile.mkdtemp(prefix="runpod-emulator-"))
        return self._folder

    def _change(self, sign: str, group: int, worker_id: str) -> None:
        if sys.platform == "win32":
            return
        if sign == "+":
            self._watched[group, worker_id] = None
        else:
            self._watched.pop((group, worker_id), None)
        if self._process is not None and self._tell(f"{sign} {group} {worker_id}\n"):
            return
        # The first worker, or somebody has killed the program: another one is told of all there are.
        self._end_program()
        if self._watched:
            lines = "".join(f"+ {group} {worker_id}\n" for group, worker_id in self._watched)
            self._process = _start_program(self._own_folder(), lines[:_PIPE_TAKES].encode())
            self._tell(lines[_PIPE_TAKES:])

    def _tell(self, lines: str) -> bool:
        """Whether it is there to hear of it."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(lines.encode())
        except BrokenPipeError:
            return False
        return True


def _start_program(folder: Path | None, told: bytes) -> subprocess.Popen[bytes]:
    """Start it; what it is told is there before it is, as the emulator may be killed at any moment."""
    reading, writing = os.pipe()
    pipe = os.fdopen(writing, "wb", buffering=0)
    pipe.write(told)
    try:
        program = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *([] if folder is None else [str(folder)])],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # What ends the emulator's process group must not end this.
            start_new_session=True,
        )
    except BaseException:
        pipe.close()
        raise
    finally:
        os.close(reading)
    program.stdin = pipe
    return program


def end_group(group: int) -> None:
    """Kill all processes of a worker's group, its children unless they left it."""
    if sys.platform == "win32":
        return
    # When none is left, or (macOS) only some that have ended and wait to be collected.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def end_strays(worker_id: str) -> None:
    """Kill what a worker has started outside its group: it carries the worker's id in its environment.

    Where there is no /proc (macOS) such processes cannot be found.
    """
    mark = f"RUNPOD_POD_ID={worker_id}".encode()
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return
    for number in numbers:
        try:
            with open(f"/proc/{number}/environ", "rb") as environment:
                is_stray = mark in environment.read().split(b"\0")
            if is_stray and number != os.getpid():
                os.kill(number, signal.SIGKILL)
        except OSError:
            # It has ended, or is somebody else's.
            continue


def descent_of(process_id: int) -> frozenset[tuple[int, str]]:
    """The processes that descend from one: the number of each, and when it was started, so that no other that
    gets its number is taken for it. Where there is no /proc (macOS) none can be found.

    One whose parent has ended descends from nobody any more.
    """
    found = {}
    ahead = [process_id]
    while ahead:
        for child in _children_of(ahead.pop()):
            if child not in found:
                found[child] = _start_of(child)
                ahead.append(child)
    return frozenset(found.items())


def end_descent(descent: frozenset[tuple[int, str]]) -> None:
    """Kill processes that descended from a worker, wherever they have gone."""
    for number, started in descent:
        if started and _start_of(number) == started:
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)


def _children_of(number: int) -> list[int]:
    children: list[int] = []
    # It may end meanwhile, and so may a thread of its.
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{number}/task"):
            with suppress(OSError), open(f"/proc/{number}/task/{thread}/children") as listed:
                children += map(int, listed.read().split())
    return children


def _start_of(number: int) -> str:
    """When a process was started, in ticks since the system was; empty when there is none."""
    try:
        with open(f"/proc/{number}/stat") as told:
            # Its name, in brackets, may have anything in it.
            return told.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def main() -> None:
    """Watch until the emulator is gone, then end what it leaves."""
    watched = set()
    for line in sys.stdin:
        sign, group, worker_id = line.split()
        if sign == "+":
            watched.add((int(group), worker_id))
        else:
            watched.discard((int(group), worker_id))
    for group_number, worker_id in watched:
        if group_number != NOT_KNOWN:
            descent = descent_of(group_number)
            end_group(group_number)
            end_descent(descent)
        end_strays(worker_id)
    for group_number, worker_id in watched:
        if group_number == NOT_KNOWN:
            # It may not have carried its id yet.
            time.sleep(_EXEC_S)
            end_strays(worker_id)
    for folder in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
