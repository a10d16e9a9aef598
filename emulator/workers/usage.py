"""What a worker's processes take of the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Usage:
    """The memory that a process and its children hold, and the CPU time they have had."""

    memory_bytes: int
    cpu_s: float


def usage_of(process_id: int | None) -> Usage | None:
    """What a process and all it has started take now; None when there is none."""
    if process_id is None:
        return None
    # Most never ask, so they need not wait for the import.
    import psutil

    memory_bytes, cpu_s = 0, 0.0
    try:
        process = psutil.Process(process_id)
        for each in (process, *process.children(recursive=True)):
            with each.oneshot():
                memory_bytes += each.memory_info().rss
                times = each.cpu_times()
                cpu_s += times.user + times.system
    except psutil.Error:
        # It has ended just now.
        return None
    return Usage(memory_bytes, cpu_s)
