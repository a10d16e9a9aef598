"""How much of everything a run measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The sizes of a run; the figures of a quick one are rough."""

    #: How often the servers take turns under each load.
    rounds: int
    #: Seconds of load before the clock runs, and while it does.
    warm_up_s: float
    load_s: float
    #: How often each process is started.
    starts: int
    #: How many jobs the queue holds when it is deep.
    deep_queue: int
    #: How many queued jobs a state file has at a start.
    kept_queue: int
    #: How many clients wait in /runsync, and for how many seconds they are watched.
    waiters: int
    idle_s: float
    #: How many jobs a worker of the real SDK is given one after the other, at about one a second.
    sdk_jobs: int
    #: How many jobs the console shows.
    console_jobs: int


FULL = Scale(
    rounds=5,
    warm_up_s=0.5,
    load_s=2.0,
    starts=7,
    deep_queue=1_000_000,
    kept_queue=100_000,
    waiters=10_000,
    idle_s=5.0,
    sdk_jobs=12,
    console_jobs=10_000,
)
QUICK = Scale(
    rounds=1,
    warm_up_s=0.3,
    load_s=1.0,
    starts=3,
    deep_queue=200_000,
    kept_queue=100_000,
    waiters=2_000,
    idle_s=2.0,
    sdk_jobs=4,
    console_jobs=2_000,
)
