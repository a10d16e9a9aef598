"""Processes that a test has seen, and whether they have ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx


def is_alive(process_id: int) -> bool:
    """In a container without an init, the dead are left as zombies: they count as gone."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_the_end_of(process_ids: Iterable[int], http: httpx.Client | None = None) -> None:
    """Return once none is alive; the emulator is asked for its health meanwhile."""
    left = list(process_ids)
    while any(map(is_alive, left)):
        if http is not None:
            http.get("/_emulator/health")
