"""A local emulator of the Runpod Serverless endpoint API that runs your real handlers.

    from emulator import Emulator, EndpointConfig, VirtualClock

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from emulator.version import __version__

if TYPE_CHECKING:
    from emulator.client import EmulatorClient
    from emulator.clock.clock import Clock, FiredTimer, VirtualClock
    from emulator.core.config import EndpointConfig
    from emulator.core.job import JobStatus
    from emulator.core.scaling import ScalerType
    from emulator.emulator import Emulator
    from emulator.errors import (
        ClockError,
        ConfigError,
        EmulatorError,
        EndpointNotFound,
        InvalidRequest,
        JobNotFound,
        MalformedRequest,
        NotRetryable,
    )
    from emulator.workers.handler import HandlerError

__all__ = [
    "Clock",
    "ClockError",
    "ConfigError",
    "Emulator",
    "EmulatorClient",
    "EmulatorError",
    "EndpointConfig",
    "EndpointNotFound",
    "FiredTimer",
    "HandlerError",
    "InvalidRequest",
    "JobNotFound",
    "JobStatus",
    "MalformedRequest",
    "NotRetryable",
    "ScalerType",
    "VirtualClock",
    "__version__",
]

_HOME_OF = {
    "Clock": "clock.clock",
    "ClockError": "errors",
    "ConfigError": "errors",
    "Emulator": "emulator",
    "EmulatorClient": "client",
    "EmulatorError": "errors",
    "EndpointConfig": "core.config",
    "EndpointNotFound": "errors",
    "FiredTimer": "clock.clock",
    "HandlerError": "workers.handler",
    "InvalidRequest": "errors",
    "JobNotFound": "errors",
    "JobStatus": "core.job",
    "MalformedRequest": "errors",
    "NotRetryable": "errors",
    "ScalerType": "core.scaling",
    "VirtualClock": "clock.clock",
}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'emulator' has no attribute {name!r}")
    return getattr(importlib.import_module(f"emulator.{home}"), name)
