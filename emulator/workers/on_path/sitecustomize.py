"""Has the SDK of one worker keep what it writes down apart from every other's; see `own_state.py`.

The interpreter of a worker's process imports this as it starts, since the folder is first on its PYTHONPATH;
so does every Python that the worker starts, the SDK's ping process among them. It imports nothing heavy,
keeps to Python 3.8, and then makes way for the `sitecustomize` that would have been found without it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The module of the SDK that has written the jobs in progress to the working folder (1.7.12 to 1.10.0).
_KEEPS_STATE = "runpod.serverless.modules.worker_state"


class _OwnStateFinder:
    """Finds the module like everyone else, and moves its file as soon as it has run: once another module has
    imported it, the file has been read.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The specification of the one module; None, so that others look for it, of any other."""
        if name != _KEEPS_STATE:
            return None
        for finder in list(sys.meta_path):
            find_spec = None if finder is self else getattr(finder, "find_spec", None)
            spec = find_spec and find_spec(name, path, target)
            if spec is not None:
                spec.loader = _OwnStateLoader(spec.loader, self._folder)
                return spec
        return None


class _OwnStateLoader:
    """A module's own loader, but for what happens when the module has run."""

    def __init__(self, loader: Any, folder: str) -> None:
        self._loader = loader
        self._folder = folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: Any) -> None:
        """Run the module, and have it look for its file elsewhere. The SDK makes the folder."""
        self._loader.exec_module(module)
        jobs: Any = getattr(module, "JobsProgress", None)
        if jobs is not None and hasattr(jobs, "_STATE_FILE"):
            jobs._STATE_DIR = self._folder
            jobs._STATE_FILE = os.path.join(self._folder, os.path.basename(jobs._STATE_FILE))


def _make_way() -> None:
    """Import the next module of this one's name, if there is any, in its place."""
    sys.path[:] = [folder for folder in sys.path if folder != os.path.dirname(__file__)]
    this = sys.modules.pop(__name__)
    try:
        __import__(__name__)
    except ImportError as error:
        if error.name != __name__:
            raise
        sys.modules[__name__] = this


if "RUNPOD_EMULATOR_WORKER_FOLDER" in os.environ:
    sys.meta_path.insert(0, _OwnStateFinder(os.environ["RUNPOD_EMULATOR_WORKER_FOLDER"]))
_make_way()
