"""What the endpoints of these tests run."""

from __future__ import annotations

from typing import Any


def handle(job: dict[str, Any]) -> Any:
    wanted = job["input"]
    if isinstance(wanted, dict) and wanted.get("fail"):
        raise ValueError(f"out of luck: {wanted['fail']}")
    return {"echo": wanted}


def count_up(job: dict[str, Any]) -> Any:
    for number in range(job["input"]["to"]):
        yield f"piece {number} "
