"""What is said once per endpoint: advice that holds for all jobs alike."""

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
#: So much advice is remembered; a client that makes up its keys does not fill the memory.
_REMEMBERED = 1_000


class Advice:
    """The advice of one endpoint."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def on(self, error: str) -> str | None:
        """What to say about a job's error, if there is anything that has not been said yet."""
        if not any(part in error for part in _LOOP_RUNS):
            return None
        return _ON_A_RUNNING_LOOP if self.is_new(_ON_A_RUNNING_LOOP) else None

    def is_new(self, advice: str) -> bool:
        """Whether it has not been said yet: by asking it is."""
        if advice in self._given:
            return False
        if len(self._given) < _REMEMBERED:
            self._given.add(advice)
        return True
