"""The built-in handler: does what its input says, so that client authors need none of their own.

Its input keys are those of the vendor's mock worker; it waits on the emulator's clock.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from emulator.workers.handler import Handler, HandlerKind
from emulator.workers.outcome import WorkerCrash
from emulator.workers.progress import ProgressReports

if TYPE_CHECKING:
    from emulator.clock.clock import Clock
    from emulator.scenario.stubs import Stubs

log = logging.getLogger("emulator.workers")


def mock_worker(clock: Clock, stubs: Stubs | None = None) -> Handler:
    """A handler that obeys these keys of its input, all optional, for as long as there are no stubs.

    `mock_return` is its output (default `"Hello World!"`), `mock_delay` how many seconds it takes,
    `mock_progress` a list of progress updates spread over that time (or `{"updates": […], "wait_time":
    seconds before each}`), `mock_logs` a list of lines to log (or of `{"level", "message"}`), `mock_error`
    makes it raise (with a string: that message), `mock_crash` kills its worker, and `mock_refresh` has the
    worker replaced afterwards.
    """
    progress = ProgressReports()

    async def pause(job: dict[str, Any], seconds: float) -> None:
        if seconds:
            await clock.sleep(int(seconds * 1000), "mock_delay", job["id"])

    async def handler(job: dict[str, Any]) -> Any:
        wishes = job["input"] if isinstance(job["input"], dict) else {}
        for line in _as_list(wishes.get("mock_logs")):
            log.info("job %s: %s", job["id"], line.get("message") if isinstance(line, dict) else line)
        delay_s = float(wishes.get("mock_delay") or 0)
        plan = wishes.get("mock_progress")
        if isinstance(plan, dict):
            for update in _as_list(plan.get("updates")):
                await pause(job, float(plan.get("wait_time") or 0))
                progress.update(job, update)
            await pause(job, delay_s)
        else:
            updates = _as_list(plan)
            for update in updates:
                progress.update(job, update)
                await pause(job, delay_s / len(updates))
            if not updates:
                await pause(job, delay_s)
        if wishes.get("mock_crash"):
            raise WorkerCrash("mock_crash was asked for")
        if error := wishes.get("mock_error"):
            raise RuntimeError(error if isinstance(error, str) else "Mock error")
        output = wishes.get("mock_return", "Hello World!")
        if wishes.get("mock_refresh"):
            return {"refresh_worker": True, "mock_return": output}
        return output

    return Handler(
        function=handler,
        kind=HandlerKind.ASYNC,
        name="the built-in mock worker",
        progress=progress,
        stubs=stubs,
    )


def _as_list(value: object) -> list[object]:
    if value is None or value is False:
        return []
    return value if isinstance(value, list) else [value]
