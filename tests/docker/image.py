"""The images: what the Dockerfiles say, and what was built of them in a folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import typer.main

from emulator.cli import cli
from tests.docker.dockerfile import PROJECT, Root, Stage, read_dockerfile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STAGES = read_dockerfile(PROJECT / "Dockerfile")
SLIM, SDK = STAGES["slim"], STAGES["sdk"]
(WORKER,) = read_dockerfile(PROJECT / "examples/worker/Dockerfile").values()
#: What the emulator takes from the environment.
VARIABLES = {
    parameter.envvar for parameter in typer.main.get_command(cli).commands["serve"].params if parameter.envvar
}


class BuiltImage:
    """An image in a folder, whose commands run as processes of this machine."""

    def __init__(self, stage: Stage, root: Root, *, base_path: str = os.defpath) -> None:
        self.stage = stage
        self.root = root
        #: Where the base image's programs are.
        self._base_path = base_path

    def environment(self, **variables: str) -> dict[str, str]:
        """The image's ENV with `variables`; a user without a name is at home in `/`."""
        environment = {"PATH": "$PATH"} | self.stage.pairs("ENV")
        path = self.root.place(environment["PATH"]).replace("$PATH", self._base_path)
        return environment | {"PATH": path, "HOME": str(self.root.folder)} | variables

    async def run(self, words: list[str], **variables: str) -> subprocess.CompletedProcess[bytes]:
        environment = self.environment(**variables)
        return await anyio.run_process(
            _found(words, environment), cwd=self.root.folder / "app", env=environment, check=False
        )

    @asynccontextmanager
    async def running(self, words: list[str], **variables: str) -> AsyncIterator[Process]:
        """The command, until the body ends; then it is killed with all it has started."""
        environment = self.environment(**variables)
        async with await anyio.open_process(
            _found(words, environment),
            cwd=self.root.folder / "app",
            env=environment,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                yield Process(process)
            finally:
                # Some may be left of a process that has ended.
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    assert process.returncode is not None


class Process:
    """A container's process and what it has printed."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self._process = process
        self.output = ""

    async def until(self, *texts: str) -> None:
        """Read its output until all of the texts have come."""
        assert self._process.stdout is not None
        while not all(text in self.output for text in texts):
            try:
                self.output += (await self._process.stdout.receive()).decode()
            except anyio.EndOfStream:
                raise AssertionError(f"it ended without {texts}: {self.output}") from None

    async def stop(self, number: int) -> int:
        """Ask it to end; returns its exit code."""
        self._process.send_signal(number)
        return await self._process.wait()


def _found(words: list[str], environment: dict[str, str]) -> list[str]:
    """The command with its program looked up in the image's PATH."""
    program = shutil.which(words[0], path=environment["PATH"])
    assert program is not None
    return [program, *words[1:]]
