"""What a handler script finds as `runpod` when it is loaded into this process.

The real SDK takes over a second to import and its `start` never returns. The script gets a light
package in its place whose `start` keeps the config and whose `progress_update` reaches the emulator;
everything else is looked up in the real SDK, where it is installed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from emulator.workers.progress import REPORTS

_STAND_INS = ("runpod", "runpod.serverless")


class ServerlessStarted(BaseException):
    """Ends a script where the real `runpod.serverless.start` would begin to serve."""


class SDKStandIn:
    """One script's `runpod` package; `config` is what the script gave to `runpod.serverless.start`."""

    #: The one whose script is being loaded: a module that several scripts import is imported once, and has
    #: the package of the first.
    _of_script: SDKStandIn | None = None

    def __init__(self, *, start_ends_script: bool) -> None:
        self.config: object = None
        self._start_ends_script = start_ends_script

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let imports find the stand-in while the body runs; afterwards all is as it was."""
        before = {name: module for name, module in sys.modules.items() if _is_sdk(name)}
        package, serverless = _module("runpod"), _module("runpod.serverless")
        vars(package).update(serverless=serverless)
        vars(serverless).update(start=SDKStandIn.start, progress_update=REPORTS.update)
        _put_modules({**before, "runpod": package, "runpod.serverless": serverless})
        SDKStandIn._of_script = self
        try:
            yield
        finally:
            SDKStandIn._of_script = None
            _put_modules(before)

    @staticmethod
    def start(config: object) -> None:
        """`runpod.serverless.start`, for the script that is being loaded.

        :raises ServerlessStarted: that is where it ends.
        """
        sdk = SDKStandIn._of_script
        if sdk is None:
            return
        if sdk.config is None:
            sdk.config = config
        if sdk._start_ends_script:
            raise ServerlessStarted


def sdk_is_installed() -> bool:
    """Whether the real package is there, be it behind a stand-in."""
    return PathFinder.find_spec("runpod") is not None


@functools.cache
def sdk_version() -> str | None:
    """The version of the real package; None when it is not there."""
    try:
        return importlib.metadata.version("runpod")
    except importlib.metadata.PackageNotFoundError:
        return None


def _module(name: str) -> ModuleType:
    """An empty module that finds the real package's submodules, and its attributes when asked."""
    module = ModuleType(name)
    module.__path__ = _real_path(name)
    vars(module)["__getattr__"] = lambda attribute: _real_attribute(name, attribute)
    return module


def _real_path(name: str) -> list[str]:
    spec = importlib.util.find_spec("runpod") if _real_sdk_is_visible() else None
    if spec is None or not spec.submodule_search_locations:
        return []
    folders = list(spec.submodule_search_locations)
    return folders if name == "runpod" else [f"{folder}/serverless" for folder in folders]


def _real_sdk_is_visible() -> bool:
    # find_spec reads __spec__ of a module that is imported already: a stand-in has none.
    loaded = sys.modules.get("runpod")
    return loaded is None or loaded.__spec__ is not None


def _real_attribute(name: str, attribute: str) -> Any:
    if attribute == "__version__" and name == "runpod" and (version := sdk_version()) is not None:
        return version
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    standing_in = {name: sys.modules[name] for name in list(sys.modules) if _is_sdk(name)}
    is_stand_in = "runpod" in standing_in and standing_in["runpod"].__spec__ is None
    if is_stand_in:
        _put_modules({})
    try:
        return getattr(importlib.import_module(name), attribute)
    except ModuleNotFoundError as error:
        raise AttributeError(
            f"the handler uses {name}.{attribute}, which needs the SDK: pip install runpod"
        ) from error
    finally:
        if is_stand_in:
            _put_modules(standing_in)


def _put_modules(wanted: Mapping[str, ModuleType]) -> None:
    for name in [name for name in sys.modules if _is_sdk(name)]:
        del sys.modules[name]
    sys.modules.update(wanted)


def _is_sdk(name: str) -> bool:
    return name == "runpod" or name.startswith("runpod.")
