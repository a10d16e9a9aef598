"""A handler that is ready to run, with the options its author gave to `runpod.serverless.start`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from emulator.errors import EmulatorError
from emulator.scenario.stubs import Stubs


class HandlerError(EmulatorError):
    """The handler cannot be loaded."""


class HandlerKind(Enum):
    """How a handler is run."""

    SYNC = "sync"
    """A plain function: in the worker's thread, on a loop of its own."""
    ASYNC = "async"
    """A coroutine function: on the event loop."""
    GENERATOR = "generator"
    """Streams from the worker's thread."""
    ASYNC_GENERATOR = "async generator"
    """Streams from the event loop."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Handler:
    """What a worker runs."""

    function: Callable[[dict[str, Any]], Any]
    kind: HandlerKind
    #: How it is named in the banner and the log.
    name: str
    #: A streaming handler's chunks are also its output (wire.md 7).
    return_aggregate_stream: bool = False
    #: The worker is replaced after every job.
    refresh_worker: bool = False
    #: Given how many jobs a worker runs at once, how many it should.
    concurrency_modifier: Callable[[int], int] | None = None
    #: Of the built-in worker alone: what it answers by, once there are any.
    stubs: Stubs | None = None

    @classmethod
    def of(cls, function: object, name: str, config: Mapping[str, Any]) -> Handler:
        """The handler for a callable and the config given to `runpod.serverless.start`.

        :raises HandlerError: it cannot be called with a job.
        """
        if not callable(function):
            raise HandlerError(f"{name} is a {type(function).__name__}, not a function that takes a job")
        return cls(
            function=function,
            kind=_kind_of(function),
            name=name,
            return_aggregate_stream=bool(config.get("return_aggregate_stream")),
            refresh_worker=bool(config.get("refresh_worker")),
            concurrency_modifier=config.get("concurrency_modifier"),
        )


def _kind_of(function: Callable[..., Any]) -> HandlerKind:
    """As the SDK tells them apart (its `is_generator`): it does not look into an object that can be called,
    so one whose `__call__` yields is no generator to it. It awaits what comes back, so one whose `__call__`
    is a coroutine function is async.
    """
    if inspect.isasyncgenfunction(function):
        return HandlerKind.ASYNC_GENERATOR
    if inspect.isgeneratorfunction(function):
        return HandlerKind.GENERATOR
    while isinstance(function, functools.partial):
        function = function.func
    called = function if inspect.isroutine(function) else type(function).__call__
    return HandlerKind.ASYNC if inspect.iscoroutinefunction(called) else HandlerKind.SYNC
