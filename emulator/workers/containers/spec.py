"""What the engine is asked for: the body of the request that makes a worker's container."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.workers.handler import HandlerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from emulator.core.container import ContainerSettings

#: What the engine keeps of a container's output, for `docker logs`; we read it as it comes.
_LOGS = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}


def container_spec(
    settings: ContainerSettings,
    *,
    image_id: str,
    command: Sequence[str],
    hostname: str,
    variables: Mapping[str, str],
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """The container of one worker. `command` stands for the image's CMD; none leaves that."""
    host: dict[str, Any] = {
        "LogConfig": _LOGS,
        "Binds": [
            f"{Path(mount.folder).expanduser().absolute()}:{mount.path}:{'ro' if mount.read_only else 'rw'}"
            for mount in settings.mounts
        ],
    }
    if settings.network != "host":
        # As the compose files have it: services of this machine, for what a handler calls.
        host["ExtraHosts"] = ["host.docker.internal:host-gateway"]
    if settings.network:
        host["NetworkMode"] = settings.network
    if limit := settings.memory_bytes:
        # Without a share of the swap: what is too much ends at once, as in production.
        host |= {"Memory": limit, "MemorySwap": limit}
    if settings.cpus:
        host["NanoCpus"] = int(settings.cpus * 1e9)
    if size := settings.shm_bytes:
        host["ShmSize"] = size
    if settings.gpus:
        host["DeviceRequests"] = [_gpus(settings.gpus)]
    spec: dict[str, Any] = {
        "Image": image_id,
        "Hostname": hostname,
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": dict(labels),
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host,
    }
    if command:
        spec["Cmd"] = list(command)
    if settings.user:
        spec["User"] = settings.user
    return spec


def check_folders(settings: ContainerSettings) -> None:
    """Refuse a volume whose folder is not there: an engine would make an empty one, of root's.

    :raises HandlerError: see above.
    """
    for mount in settings.mounts:
        folder = Path(mount.folder).expanduser().absolute()
        if not folder.exists():
            raise HandlerError(f"volumes: there is no folder {folder}: make it, or name another")


def _gpus(gpus: str) -> dict[str, Any]:
    request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]]}
    if gpus == "all":
        return {**request, "Count": -1}
    if gpus.isdecimal():
        return {**request, "Count": int(gpus)}
    return {**request, "DeviceIDs": gpus.removeprefix("device=").split(",")}
