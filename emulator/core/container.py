"""What can be set for the containers of an endpoint's workers, with the names `docker run` has for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from emulator.errors import ConfigError

#: Where production has the network volume of an endpoint.
VOLUME_PATH = "/runpod-volume"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
#: What the engine refuses as too little.
_MEMORY_MIN = 6 * 1024**2


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the engine's machine, as containers see it."""

    folder: str
    path: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSettings:
    """How the containers of an endpoint's workers are made.

    :raises ConfigError: a value is none that an engine would take.
    """

    #: `all`, how many, or the ids of the GPUs they see, with commas; empty is none.
    gpus: str = ""
    #: The most memory of each, as `512m` or `8g`, swap included; empty is no limit.
    memory: str = ""
    #: The most CPU time of each, in CPUs; 0 is no limit.
    cpus: float = 0.0
    #: `FOLDER`, which they see as /runpod-volume, or `FOLDER:PATH`, or either with `:ro`.
    volumes: tuple[str, ...] = ()
    #: The size of /dev/shm, as `1g`; empty is the engine's 64 MB.
    shm_size: str = ""
    #: `linux/amd64`, say; empty is the image's own.
    platform: str = ""
    #: Who the process is, as `1000:1000`; empty is the image's own.
    user: str = ""
    #: The engine's network they are in; empty is its default.
    network: str = ""

    def __post_init__(self) -> None:
        if (memory := self.memory_bytes) and memory < _MEMORY_MIN:
            raise ConfigError(f"memory is {self.memory!r}: a container needs 6m at least")
        _bytes("shm_size", self.shm_size)
        if not 0 <= self.cpus <= 1_000:
            raise ConfigError(f"cpus is {self.cpus:g}: it must be from 0 to 1000")
        if self.platform and not re.fullmatch(r"[a-z0-9]+(/[a-z0-9_]+){0,2}", self.platform):
            raise ConfigError(f"platform is {self.platform!r}: it must be like linux/amd64")
        if self.network == "none":
            raise ConfigError("network is 'none': such containers cannot reach the emulator to ask for jobs")
        if paths := [mount.path for mount in self.mounts if not mount.path.startswith("/")]:
            raise ConfigError(f"volumes: {paths[0]!r} must be a path in the container, which starts with /")

    @property
    def memory_bytes(self) -> int:
        """The limit, in bytes; 0 is none."""
        return _bytes("memory", self.memory)

    @property
    def shm_bytes(self) -> int:
        """The size of /dev/shm, in bytes; 0 is the engine's default."""
        return _bytes("shm_size", self.shm_size)

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """The volumes, taken apart."""
        return tuple(map(_mount, self.volumes))


def _mount(volume: str) -> Mount:
    read_only = volume.endswith(":ro")
    folder, _, path = volume.removesuffix(":ro").partition(":")
    if not folder:
        raise ConfigError(f"volumes: {volume!r} names no folder")
    return Mount(folder, path or VOLUME_PATH, read_only)


def _bytes(name: str, text: str) -> int:
    if not text:
        return 0
    if (given := _SIZE.fullmatch(text.strip())) is None:
        raise ConfigError(f"{name} is {text!r}: it must be a size such as 512m or 8g")
    return int(float(given[1]) * _UNITS[given[2].lower()])
