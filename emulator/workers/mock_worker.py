"""The built-in handler: does what its input says, so that client authors need none of their own.

Its input keys and its arguments are those of the vendor's mock worker, in the same order; it waits on the
emulator's clock.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from emulator.workers.handler import Handler, HandlerKind
from emulator.workers.outcome import ResultLost, WorkerCrash
from emulator.workers.progress import REPORTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from emulator.clock.clock import Clock
    from emulator.scenario.stubs import Stubs

log = logging.getLogger("emulator.workers")

#: The arguments that have it stream: here both do it on the event loop.
_STREAMS = frozenset({"--generator", "--async_generator"})


def mock_worker(clock: Clock, stubs: Stubs | None = None, arguments: Sequence[str] = ()) -> Handler:
    """A handler that obeys these keys of its input, all optional, for as long as there are no stubs.

    In this order: `mock_logs` is a list of lines to log (or of `{"level", "message"}`), `mock_delay` how many
    seconds it takes, `mock_crash` kills its worker, `mock_error` makes it raise (a string: that message),
    `mock_external` (`{"error_job_return": true}`) has its result get lost, `mock_progress` is `{"updates":
    […], "wait_time": seconds before each}` (or a list of updates spread over `mock_delay`), `mock_return` is
    its output (default `"Hello World!"`), and `mock_refresh` has the worker replaced afterwards.

    With `--generator` or `--async_generator` among the arguments it streams the parts of `mock_return`, each
    after `mock_delay`; `--return_aggregate_stream` makes them the output too. Other arguments mean nothing.
    """
    handler = _MockWorker(clock)
    if _STREAMS.isdisjoint(arguments):
        return Handler(
            function=handler.answer,
            kind=HandlerKind.ASYNC,
            name="the built-in mock worker",
            stubs=stubs,
        )
    return Handler(
        function=handler.stream,
        kind=HandlerKind.ASYNC_GENERATOR,
        name="the built-in mock worker, as a generator",
        return_aggregate_stream="--return_aggregate_stream" in arguments,
        stubs=stubs,
    )


class _MockWorker:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def answer(self, job: dict[str, Any]) -> Any:
        """The handler that returns."""
        wishes = _wishes(job)
        _write_logs(job, wishes)
        plan = wishes.get("mock_progress")
        updates = _as_list(plan.get("updates") if isinstance(plan, dict) else plan)
        spread = partial(self._report, job, updates)
        delay_s = float(wishes.get("mock_delay") or 0)
        if updates and not isinstance(plan, dict):
            await spread(after_s=delay_s / len(updates))
        else:
            await self._pause(job, delay_s)
        _fail(wishes)
        if isinstance(plan, dict):
            await spread(before_s=float(plan.get("wait_time") or 0))
        output = wishes.get("mock_return", "Hello World!")
        if wishes.get("mock_refresh"):
            return {"refresh_worker": True, "mock_return": output}
        return output

    async def stream(self, job: dict[str, Any]) -> AsyncIterator[Any]:
        """The handler that yields."""
        wishes = _wishes(job)
        _write_logs(job, wishes)
        delay_s = float(wishes.get("mock_delay") or 0)
        await self._pause(job, delay_s)
        _fail(wishes)
        for number, part in enumerate(wishes.get("mock_return", ["Hello World!"])):
            if number:
                await self._pause(job, delay_s)
            yield part

    async def _report(
        self, job: dict[str, Any], updates: list[object], *, before_s: float = 0, after_s: float = 0
    ) -> None:
        for update in updates:
            await self._pause(job, before_s)
            REPORTS.update(job, update)
            await self._pause(job, after_s)

    async def _pause(self, job: dict[str, Any], seconds: float) -> None:
        if seconds:
            await self._clock.sleep(int(seconds * 1000), "mock_delay", job["id"])


def _wishes(job: dict[str, Any]) -> dict[str, Any]:
    return job["input"] if isinstance(job["input"], dict) else {}


def _write_logs(job: dict[str, Any], wishes: dict[str, Any]) -> None:
    for line in _as_list(wishes.get("mock_logs")):
        log.info("job %s: %s", job["id"], line.get("message") if isinstance(line, dict) else line)


def _fail(wishes: dict[str, Any]) -> None:
    """End as is wished, unless it is to end well.

    :raises WorkerCrash: its worker is to die.
    :raises RuntimeError: the handler is to raise.
    :raises ResultLost: its result is not to arrive.
    """
    if wishes.get("mock_crash"):
        raise WorkerCrash("mock_crash was asked for")
    if error := wishes.get("mock_error"):
        raise RuntimeError(error if isinstance(error, str) else "Mock error")
    external = wishes.get("mock_external")
    if isinstance(external, dict) and external.get("error_job_return"):
        raise ResultLost("mock_external asked for it")


def _as_list(value: object) -> list[object]:
    if value is None or value is False:
        return []
    return value if isinstance(value, list) else [value]
