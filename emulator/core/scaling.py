"""How many workers an endpoint should have, as a pure function of what can be seen at one moment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class ScalerType(StrEnum):
    """Production's two ways to scale (wire.md 6)."""

    QUEUE_DELAY = "QUEUE_DELAY"
    """Another worker when a job has waited longer than `scalerValue` seconds."""
    REQUEST_COUNT = "REQUEST_COUNT"
    """A worker for every `scalerValue` jobs that are queued or in progress."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Demand:
    """What the scaler looks at. Low-priority jobs are in none of these numbers (wire.md 6)."""

    queued: int
    in_progress: int
    #: Queued jobs that have waited longer than `scalerValue` seconds; counted up to `workersMax`.
    overdue: int
    #: Workers in any state.
    workers: int
    #: Workers that are on their way up.
    starting: int


def wanted_workers(
    demand: Demand, *, scaler_type: ScalerType, scaler_value: int, workers_min: int, workers_max: int
) -> int:
    """The number of workers wanted.

    Fewer than there are never means that one is stopped: idleness does that.
    """
    if scaler_type is ScalerType.REQUEST_COUNT:
        wanted = math.ceil((demand.queued + demand.in_progress) / scaler_value)
    else:
        wanted = demand.workers
        if demand.queued:
            # A worker that is starting is already the answer to one overdue job.
            wanted = max(1, demand.workers + max(0, demand.overdue - demand.starting))
    return max(workers_min, min(wanted, workers_max))
