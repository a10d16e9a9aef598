"""One emulator to a state file: who holds it is written beside it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from emulator.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

_held: WeakSet[StateLock] = WeakSet()


class StateLock:
    """Held until it is let go, or its process ends, however it does."""

    def __init__(self, path: Path) -> None:
        """Take it for the state file at this path.

        :raises StateError: another emulator holds it, or it cannot be taken at all.
        """
        self._path = path.with_name(path.name + "-lock")
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"the state file {path} cannot be used: {self._path} cannot be opened: {error.strerror}"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 500, 0).decode("utf-8", "replace").strip() or "another process"
            os.close(self._file)
            raise StateError(
                f"the state file {path} is in use by {holder}: stop that one, or name another file"
            ) from error
        self.tell(None)
        _held.add(self)

    def tell(self, url: str | None) -> None:
        """Write down who holds it, and where it is served."""
        where = "" if url is None else f" ({url})"
        # On a disk that is full the lock holds all the same.
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"process {os.getpid()}{where}\n".encode(), 0)

    def let_go(self) -> None:
        """Let others have it."""
        if self in _held:
            _held.discard(self)
            with suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)

    def close_in_child(self) -> None:
        """A forked child must not hold it on when its parent has gone."""
        with suppress(OSError):
            os.close(self._file)


def _close_in_child() -> None:
    for lock in list(_held):
        lock.close_in_child()
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
