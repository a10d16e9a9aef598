"""Work on what a user wrote, done in a thread: however long it takes, the loop serves the others."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from emulator.workers.handler import HandlerError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("emulator")

#: Real seconds that a handler may take to load (models are), and after which it is said that it does.
LOADING_PATIENCE_S = 300.0
SLOW_S = 10.0

T = TypeVar("T")


async def off_loop(name: str, work: Callable[[], T]) -> T:
    """What `work` returns or raises; `name` is what it loads or looks at. In its thread, this loop is the
    current one, and does not run.

    :raises HandlerError: it has not ended in time; it is left behind.
    """
    loop = asyncio.get_running_loop()
    doing: Future[T] = Future()
    # Nobody waiting for it any more does not undo what it is.
    doing.set_running_or_notify_cancel()

    def do() -> None:
        asyncio.set_event_loop(loop)
        try:
            doing.set_result(work())
        except BaseException as error:  # whoever waits for it is to have it, whatever it is
            doing.set_exception(error)

    # The threads of a pool would be waited for at the end.
    threading.Thread(target=do, name="runpod-loading", daemon=True).start()
    return await loaded_in_time(name, doing)


async def loaded_in_time(name: str, loading: Future[T]) -> T:
    """What `loading` ends with.

    :raises HandlerError: it has not ended in time.
    """
    waiting = asyncio.wrap_future(loading)
    try:
        await asyncio.wait({waiting}, timeout=SLOW_S)
        if not waiting.done():
            log.warning("%s is still being loaded, after %g s; it has %g", name, SLOW_S, LOADING_PATIENCE_S)
            await asyncio.wait({waiting}, timeout=LOADING_PATIENCE_S - SLOW_S)
        if not waiting.done():
            raise HandlerError(
                f"{name} has not been loaded after {LOADING_PATIENCE_S:g} s: what it does while it is"
                " imported does not end, or what another does that is being loaded. Let a function do that;"
                " until it has ended, no other inline handler is loaded"
            )
        return waiting.result()
    finally:
        waiting.cancel()
