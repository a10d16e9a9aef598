"""Carries whole states: out of a file and into one, out of an emulator and into one that runs."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from emulator.clock.real_time import wall_clock_ms
from emulator.core.job import JobStatus
from emulator.errors import StateError
from emulator.ledger.database import Batch, Database, check_place
from emulator.ledger.json_lines import State, state_of_lines
from emulator.ledger.lock import StateLock
from emulator.ledger.parts import CLOCK, STOP, Parts
from emulator.ledger.records import ChunkRecord, PartRecord, counts_of, delivery_of, request_of, state_of
from emulator.ledger.retelling import Retelling

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from emulator.core.endpoint import Endpoint
    from emulator.ledger.parts import Served

_FROZEN = "frozen"
#: Jobs that are written at once.
_AT_ONCE = 1_000


def read_state(path: Path) -> State:
    """All that is in a state file; an emulator may be running on it.

    :raises StateError: it cannot be used.
    """
    with closing(Database(path, to_look=True)) as database:
        state = State(
            wall_clock_ms(),
            list(database.jobs()),
            list(database.chunks()),
            list(database.deliveries()),
            list(database.parts()),
        )
    if (clock := state.part(CLOCK, "")) is not None:
        passed_ms = max(0, state.now_ms - clock["wall_ms"])
        state.now_ms = clock["now_ms"] + int(passed_ms * clock["rate"])
    return state


def write_state(path: Path, lines: Iterable[bytes], *, replace: bool) -> int:
    """Make a state file of lines; returns how many jobs it has.

    Time goes on in it from now: what had a minute left has a minute left. Only a clock that stood still
    stands where it stood.

    :raises StateError: the lines say none, the file has a state, or cannot be written.
    """
    wall_ms = wall_clock_ms()
    state = state_of_lines(lines, wall_ms)
    clock = state.part(CLOCK, "")
    if clock is None or clock["mode"] != _FROZEN:
        state = state.at(wall_ms)
    check_place(path)
    lock = StateLock(path)
    try:
        with closing(Database(path)) as database:
            if next(database.jobs(), None) is not None and not replace:
                raise StateError(f"the state file {path} has a state already: say --replace to forget it")
            database.clear()
            for start in range(0, len(state.jobs), _AT_ONCE):
                some = state.jobs[start : start + _AT_ONCE]
                database.write(Batch(requests=[each for each, _ in some], jobs=[each for _, each in some]))
            # Whoever had a job has it no more, and that is no fault of the job.
            parts = [*state.parts, PartRecord(STOP, "", b"true")]
            database.write(Batch(chunks=state.chunks, deliveries=state.deliveries, parts=parts))
    finally:
        lock.let_go()
    return len(state.jobs)


def state_of_emulator(served: Served, endpoint_id: str | None = None) -> State:
    """The state of an emulator that runs: all of it, or of one endpoint."""
    if endpoint_id is None:
        endpoints = list(served.endpoints.values())
        now_ms = served.clock.now_ms()
    else:
        endpoints = [served.endpoints[endpoint_id]]
        now_ms = endpoints[0].clock.now_ms()
    state = State(now_ms)
    for endpoint in endpoints:
        for job in reversed(list(endpoint.newest_jobs())):
            if job.status is JobStatus.TIMED_OUT:
                continue
            number = len(state.jobs) + 1
            state.jobs.append(
                (
                    request_of(endpoint, job)._replace(number=number),
                    state_of(endpoint, job)._replace(number=number),
                )
            )
            for chunk in job.chunks or ():
                state.chunks.append(ChunkRecord(len(state.chunks) + 1, number, chunk))
        state.parts.append(counts_of(endpoint))
    state.deliveries = [
        delivery_of(each) for each in served.webhooks if not each.over and each.endpoint in endpoints
    ]
    names = {endpoint.id for endpoint in endpoints}
    state.parts += [
        part for part in Parts(served)() if part.name in names or (endpoint_id is None and not part.name)
    ]
    return state


def for_emulator(served: Served, state: State, endpoint: Endpoint | None) -> Retelling:
    """What an emulator that runs, or one endpoint of it alone, can go on from. Nothing is changed yet. Clocks
    stay as they are: what had a minute left has a minute left.

    :raises StateError: the state makes no sense, or is of several endpoints and one is needed.
    """
    if endpoint is not None:
        state = state.of_endpoint(endpoint.id)
    state = state.at((served.clock if endpoint is None else endpoint.clock).now_ms())
    if endpoint is not None:
        known = {job.id for each in served.endpoints.values() for job in each.newest_jobs()}
        if twice := next((request.job_id for request, _ in state.jobs if request.job_id in known), None):
            raise StateError(f"job {twice} is there already")
    retelling = Retelling(state.jobs, state.chunks, state.deliveries, state.parts, is_new=True)
    retelling.check(served)
    return retelling
