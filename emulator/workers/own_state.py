"""What the SDK writes down, kept apart for each worker.

In production a worker has a disk of its own. Here all share the handler's folder, and the SDK from 1.7.12
to 1.10.0 keeps the jobs in progress in a file there, `.runpod_jobs.pkl`, whose jobs it takes for its own when
it starts: a second worker, or one that follows a crash, would never ask for a job again (wire.md 7). So each
worker is given a folder for it.
"""

from __future__ import annotations

import os
from pathlib import Path

#: In it is what a worker's interpreter imports as it starts.
_ON_PATH = Path(__file__).with_name("on_path")


def own_state(folder: Path | None, python_path: str | None) -> dict[str, str]:
    """The variables by which a worker's SDK keeps its state in `folder`; none when there is no such place.

    `python_path` is the PYTHONPATH that the worker would have otherwise.
    """
    if folder is None:
        return {}
    return {
        "RUNPOD_EMULATOR_WORKER_FOLDER": str(folder),
        # An empty entry would be the working folder.
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_ON_PATH), python_path))),
    }
