"""What is said, once per endpoint, about errors of handlers that come of where production calls them."""

from __future__ import annotations

#: Parts of the messages of whatever would run a loop where one runs already.
_LOOP_RUNS = (
    "cannot be called from a running event loop",
    "This event loop is already running",
    "Cannot run the event loop while another loop is running",
)
_ON_A_RUNNING_LOOP = (
    "the handler wants to run an event loop (asyncio.run, run_until_complete), and fails as in production:"
    " the SDK calls a handler on its own loop, which is running. Make the handler `async def` and await,"
    " or run the loop in another thread: ThreadPoolExecutor().submit(asyncio.run, work()).result()"
)


class Advice:
    """The advice of one endpoint."""

    def __init__(self) -> None:
        self._given = False

    def on(self, error: str) -> str | None:
        """What to say about a job's error, if there is anything that has not been said yet."""
        if self._given or not any(part in error for part in _LOOP_RUNS):
            return None
        self._given = True
        return _ON_A_RUNNING_LOOP
