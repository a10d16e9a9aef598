"""The engine that makes containers: what it is, and its errors as sentences that say what to do."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from emulator.clock.real_time import real_seconds
from emulator.workers.handler import HandlerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiodocker import Docker

#: A child, so that commands that log warnings alone can let these lines through: a pull takes minutes.
pull_log = logging.getLogger("emulator.pull")

#: Real seconds without a word, after which an engine is not there, and a registry cannot be reached.
_ANSWER_S = 30.0
_PULL_SILENCE_S = 90.0
#: Real seconds from one line about a pull to the next.
_TELL_PULL_EVERY_S = 2.0
_NOT_FOUND = 404
#: What aiodocker gives as status when there was no answer.
_NO_ANSWER = 900
#: As engines call machines, and as images do.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MIB = 1024 * 1024


class EngineError(HandlerError):
    """The engine cannot do what it was asked for: the message says why, and what to do."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Image:
    """An image that the engine has."""

    name: str
    #: What it is whatever its name points to later.
    id: str
    #: `linux/amd64`, say.
    platform: str
    size_bytes: int

    def __str__(self) -> str:
        short = self.id.removeprefix("sha256:")[:12]
        return f"{self.name} (image {short}, {self.platform}, {self.size_bytes // 1_000_000} MB)"


class Engine:
    """The engine that DOCKER_HOST names, or the docker command's context, or the usual socket."""

    def __init__(self) -> None:
        self._docker: Docker | None = None
        self._info: dict[str, Any] = {}

    @property
    def docker(self) -> Docker:
        """Its API; only of one that is connected."""
        assert self._docker is not None
        return self._docker

    async def connect(self) -> None:
        """Get to know it.

        :raises EngineError: there is none, or it does not let us in.
        """
        if self._info:
            return
        try:
            from aiodocker import Docker
        except ImportError:
            raise EngineError(
                "workers of an image need the extra docker: python -m pip install 'runpod-emulator[docker]'"
            ) from None
        if self._docker is None:
            try:
                self._docker = Docker()
            except AssertionError:
                raise EngineError(
                    "there is no Docker engine: neither DOCKER_HOST nor a context of the docker command names"
                    " one, and there is no /var/run/docker.sock: start Docker, or set DOCKER_HOST"
                ) from None
            except (ValueError, OSError) as error:
                raise EngineError(f"DOCKER_HOST cannot be used: {error}") from None
        with self.speaking():
            async with asyncio.timeout(_ANSWER_S):
                self._info = dict(await self._docker.system.info())

    async def close(self) -> None:
        """Let go of it."""
        docker, self._docker = self._docker, None
        self._info = {}
        if docker is not None:
            await docker.close()

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Make of whatever goes wrong with it in the body an `EngineError`."""
        from aiodocker import DockerError
        from aiohttp import ClientError

        try:
            yield
        except TimeoutError:
            raise EngineError(f"the Docker engine at {self.address} does not answer") from None
        except ClientError as error:
            raise EngineError(f"the Docker engine at {self.address} has hung up: {error}") from None
        except DockerError as error:
            if error.status != _NO_ANSWER:
                raise EngineError(f"the Docker engine says: {_said(error)}") from None
            raise EngineError(self._unreachable(error)) from None

    def _unreachable(self, error: Exception) -> str:
        cause = str(error.__context__ or error)
        if "Permission denied" in cause or "permission denied" in cause:
            return (
                f"no rights on the Docker engine's socket {self.address}: join the group it belongs to"
                " (sudo usermod -aG docker $USER, then log in anew), or set DOCKER_HOST to an engine of your"
                " own (rootless)"
            )
        return (
            f"no Docker engine answers at {self.address}: start Docker, or name another by DOCKER_HOST"
            f" ({cause})"
        )

    @cached_property
    def address(self) -> str:
        """Where it is, for a person: a socket's path, or a URL."""
        where = getattr(self._docker, "_connection_info", "") or os.environ.get("DOCKER_HOST", "")
        return str(where).removeprefix("unix://")

    @property
    def host(self) -> str | None:
        """The name or address of its machine; None when it is this one."""
        parts = urlsplit(self.address)
        return parts.hostname if parts.scheme in ("tcp", "http", "https", "ssh") else None

    @property
    def platform(self) -> str:
        """What it runs, as `linux/amd64`."""
        machine = str(self._info.get("Architecture", ""))
        return f"{self._info.get('OSType', 'linux')}/{_ARCHITECTURES.get(machine, machine)}"

    @property
    def is_desktop(self) -> bool:
        """Whether it is Docker Desktop, whose containers reach what listens on this machine's loopback."""
        return "Docker Desktop" in str(self._info.get("OperatingSystem", ""))

    @property
    def is_rootless(self) -> bool:
        """Whether a user runs it, in networks of their own."""
        return any("rootless" in str(option) for option in self._info.get("SecurityOptions") or ())

    async def gateway_of(self, network: str) -> str:
        """The address of the engine's machine in one of its networks; empty when it has none.

        :raises EngineError: there is no such network.
        """
        name = network or "bridge"
        from aiodocker import DockerError

        with self.speaking():
            try:
                found = await (await self.docker.networks.get(name)).show()
            except DockerError as error:
                if error.status != _NOT_FOUND:
                    raise
                found = {}
        if network and not found:
            raise EngineError(
                f"network is {network!r}, and the engine has none of this name: docker network create"
                f" {network}"
            )
        for each in found.get("IPAM", {}).get("Config") or ():
            if gateway := each.get("Gateway"):
                return str(gateway)
            if subnet := each.get("Subnet"):
                # What an engine takes that was told nothing else.
                return str(next(ip_network(subnet, strict=False).hosts()))
        return ""

    # Images

    async def image(self, name: str, platform: str) -> Image:
        """An image, pulled if the engine does not have it.

        :raises EngineError: it cannot be had.
        """
        found = await self.find_image(name)
        if found is not None and found.platform.startswith(platform):
            return found
        await self._pull(name, platform)
        if (found := await self.find_image(name)) is None:
            raise EngineError(f"image {name!r} was pulled, and is not there")
        return found

    async def find_image(self, name: str) -> Image | None:
        """What an image's name points to now; None when the engine has none of this name.

        :raises EngineError: the engine does not answer.
        """
        from aiodocker import DockerError

        with self.speaking():
            try:
                found = await self.docker.images.inspect(name)
            except DockerError as error:
                if error.status == _NOT_FOUND:
                    return None
                raise
        return Image(
            name=name,
            id=found["Id"],
            platform=f"{found.get('Os', 'linux')}/{found.get('Architecture', '')}",
            size_bytes=int(found.get("Size", 0)),
        )

    async def _pull(self, name: str, platform: str) -> None:
        pull_log.info("image %s is not here: pulling it", name)
        told_s, progress = real_seconds(), PullProgress()
        try:
            with self.speaking():
                pieces = self.docker.images.pull(name, platform=platform or None, stream=True)
                while True:
                    async with asyncio.timeout(_PULL_SILENCE_S):
                        piece = await anext(pieces, None)
                    if piece is None:
                        break
                    progress.add(piece)
                    if real_seconds() - told_s >= _TELL_PULL_EVERY_S:
                        told_s = real_seconds()
                        pull_log.info("pulling %s: %s", name, progress)
        except EngineError as error:
            raise EngineError(
                f"there is no image {name!r}, and it could not be pulled: build it (docker build -t {name}"
                f" .), or pull it yourself, with your registry's login (docker pull {name}): {error}"
            ) from None
        pull_log.info("pulled %s: %s", name, progress)


class PullProgress:
    """How far a pull is."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def add(self, piece: dict[str, Any]) -> None:
        """One of the engine's messages about it."""
        detail, layer = piece.get("progressDetail") or {}, str(piece.get("id", ""))
        if piece.get("status") == "Downloading" and detail.get("total"):
            self._layers[layer] = (int(detail["current"]), int(detail["total"]))
        elif layer in self._layers and piece.get("status") in ("Download complete", "Pull complete"):
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)

    def __str__(self) -> str:
        if not self._layers:
            return "no layer downloaded"
        done, total = (sum(each) // _MIB for each in zip(*self._layers.values(), strict=True))
        layers = "1 layer" if len(self._layers) == 1 else f"{len(self._layers)} layers"
        return f"{done} of {total} MiB in {layers}"


def _said(error: Any) -> str:
    return " ".join(str(error.message).split())
