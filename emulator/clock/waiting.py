"""Clients that wait for something that time may bring."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from emulator.clock.real_time import real_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

#: Real seconds that a client waits while nothing can happen.
_IN_VAIN_S = 3.0
#: Real seconds from one look to the next.
_LOOK_S = 0.5


class Waiting:
    """One client that waits, while the `with` block runs. A class, as every /runsync makes one."""

    __slots__ = ("_on_begin", "_on_end", "began_s", "future", "in_vain")

    def __init__(self, on_begin: Callable[[Waiting], None], on_end: Callable[[Waiting], None]) -> None:
        self._on_begin = on_begin
        self._on_end = on_end
        #: What it waits for, where the wait can be given up.
        self.future: asyncio.Future[bool] | None = None
        #: It was given up, as time stands still and nothing goes on.
        self.in_vain = False
        self.began_s = 0.0

    def __enter__(self) -> Waiting:
        self._on_begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._on_end(self)

    def give_up(self) -> None:
        """End the wait: nothing will come of it."""
        if self.future is not None and not self.future.done():
            self.in_vain = True
            self.future.set_result(False)


class Waits:
    """The clients that wait on one clock. Where it is frozen and nothing is executed, nothing can end their
    wait: it is given up after some real seconds, that they can be told what they wait for.

    :param frozen_at: the time at which the clock is frozen; None while it runs.
    :param executes: whether something is executed that may end a wait.
    """

    def __init__(self, frozen_at: Callable[[], int | None], executes: Callable[[], bool]) -> None:
        self._frozen_at = frozen_at
        self._executes = executes
        self._waiting: dict[Waiting, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        #: Where time stood at the last look, and the real second since when nothing has happened.
        self._stood_at: int | None = None
        self._since_s = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def begin(self, waiting: Waiting) -> None:
        """One client more waits."""
        self._waiting[waiting] = None
        if self._frozen_at() is not None:
            waiting.began_s = real_seconds()
            self.watch()

    def end(self, waiting: Waiting) -> None:
        """One client less waits."""
        del self._waiting[waiting]

    def watch(self) -> None:
        """See to it that nobody waits in vain, if the clock is frozen."""
        if self._timer is None and self._waiting and self._frozen_at() is not None:
            self._stood_at = None
            self._look_later()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s, stands_at = real_seconds(), self._frozen_at()
        if stands_at is None:
            return
        if stands_at != self._stood_at or self._executes():
            self._stood_at, self._since_s = stands_at, now_s
        for waiting in self._waiting:
            if now_s - max(waiting.began_s, self._since_s) >= _IN_VAIN_S:
                waiting.give_up()
        if self._waiting:
            self._look_later()
