"""The labels on containers of workers: whose they are, so that none is left behind, and no other's goes."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emulator.workers.containers.engine import Engine

log = logging.getLogger("emulator")

#: The worker's id, its endpoint's, and the emulator that has started it.
WORKER = "runpod-emulator.worker"
ENDPOINT = "runpod-emulator.endpoint"
EMULATOR = "runpod-emulator.emulator"


def labels_of(worker_id: str, endpoint_id: str) -> dict[str, str]:
    """The labels of a worker's container."""
    return {WORKER: worker_id, ENDPOINT: endpoint_id, EMULATOR: this_emulator()}


async def prune(engine: Engine, *, everyones: bool = False) -> list[str]:
    """Remove the containers that emulators of this machine have left behind; returns their workers' ids.

    `everyones`: those of emulators that run, and of other machines at the same engine, as well.

    :raises EngineError: the engine does not answer.
    """
    removed = []
    with engine.speaking():
        left = await engine.docker.containers.list(all="true", filters=f'{{"label": ["{WORKER}"]}}')
        for container in left:
            labels: dict[str, Any] = container["Labels"]
            if everyones or _has_ended(labels.get(EMULATOR, "")):
                await remove(container)
                removed.append(labels[WORKER])
    return removed


async def remove(container: Any) -> None:
    """Remove a container, be it running, paused, or gone already."""
    from aiodocker import DockerError

    try:
        await container.delete(force=True, v=True)
    except DockerError as error:
        # Somebody else has removed it, or is at it.
        if error.status not in (404, 409):
            raise


def this_emulator() -> str:
    """What tells the emulator in this process from any other: its machine, process, and when that began."""
    import psutil

    number = os.getpid()
    return f"{socket.gethostname()}:{number}:{psutil.Process(number).create_time():.2f}"


def _has_ended(emulator: str) -> bool:
    """Whether it was an emulator of this machine, whose process is gone."""
    import psutil

    machine, _, process = emulator.rpartition(":")[0].rpartition(":")
    if machine != socket.gethostname() or not process.isdecimal():
        return False
    try:
        created = psutil.Process(int(process)).create_time()
    except psutil.Error:
        return True
    return f"{created:.2f}" != emulator.rpartition(":")[2]
