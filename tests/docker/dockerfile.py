"""A Dockerfile read, and its steps run in a folder, where there is no container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.limits import PATIENCE_S

PROJECT = Path(__file__).parents[2]
_CHANGES_NO_FILE = {"ARG", "CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "STOPSIGNAL", "USER"}


@dataclass
class Stage:
    """What is between one FROM and the next, on top of the stage it is from."""

    image: str
    name: str
    parent: Stage | None = None
    own_steps: list[tuple[str, str]] = field(default_factory=list)

    @property
    def steps(self) -> list[tuple[str, str]]:
        return [*(self.parent.steps if self.parent else ()), *self.own_steps]

    @property
    def base_image(self) -> str:
        return self.parent.base_image if self.parent else self.image

    def arguments(self, instruction: str) -> list[str]:
        return [argument for name, argument in self.steps if name == instruction]

    def only(self, instruction: str) -> str:
        (argument,) = self.arguments(instruction)
        return argument

    def command(self, instruction: str) -> list[str]:
        """The words of an instruction in exec form, which needs no shell in the image."""
        words: list[str] = json.loads(self.only(instruction).partition("CMD ")[2] or self.only(instruction))
        return words

    def pairs(self, instruction: str) -> dict[str, str]:
        """What ENV, LABEL or ARG sets."""
        return {name: value for argument in self.arguments(instruction) for name, value in _pairs(argument)}

    def copied(self) -> dict[str, str]:
        """The stage that each folder of another one comes from."""
        copies = [re.fullmatch(r"--from=(\S+) (\S+) \2", argument) for argument in self.arguments("COPY")]
        return {copy[2]: copy[1] for copy in copies if copy}


def read_dockerfile(path: Path) -> dict[str, Stage]:
    """The stages by name, in their order."""
    stages: dict[str, Stage] = {}
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        instruction, _, argument = line.partition(" ")
        if instruction == "FROM":
            image, _, name = argument.partition(" AS ")
            stage = stages[name] = Stage(image, name, stages.get(image))
        else:
            stage.own_steps.append((instruction, argument.strip()))
    return stages


class Root:
    """A folder that stands for an image's `/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, text: str) -> str:
        """The text with the image's own absolute paths in this folder."""
        return re.sub(r"(?<![\w.])/(?=(src|dist|opt|app)\b)", f"{self.folder}/", text)

    def files(self) -> list[Path]:
        return sorted(self.folder.rglob("*"))

    def run_steps(
        self, steps: list[tuple[str, str]], context: Path, *, but: str = "", **environment: str
    ) -> None:
        """Run a stage's instructions in order; this test's Python stands for the base image's.

        `but` is a command of the base image's own that is left out.
        """
        environment = {
            "HOME": os.environ.get("HOME", "/"),
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            **environment,
        }
        workdir = self.folder
        for instruction, argument in steps:
            if instruction == "ENV":
                environment |= dict(_pairs(argument))
            elif instruction == "WORKDIR":
                workdir = Path(self.place(argument))
                workdir.mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                *sources, target = argument.split()
                for source in sources:
                    copy_from_context(context, source, workdir / target)
            elif instruction == "RUN":
                if argument.split()[0] != but:
                    command = ["/bin/sh", "-ec", self.place(argument)]
                    subprocess.run(command, cwd=workdir, env=environment, timeout=PATIENCE_S, check=True)
            else:
                assert instruction in _CHANGES_NO_FILE, f"{instruction} is not known here"


def _pairs(argument: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (word.partition("=") for word in shlex.split(argument))]


def copy_from_context(context: Path, source: str, target: Path) -> None:
    """COPY: a file into a folder, or a folder's content, without what .dockerignore leaves out."""
    assert is_sent(context, source), f"COPY {source}: .dockerignore leaves it out"
    if (context / source).is_dir():
        shutil.copytree(context / source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(context / source, target)


def is_sent(context: Path, path: str) -> bool:
    """Whether a top-level path is part of the build context; the last matching line counts."""
    sent, rules = True, context / ".dockerignore"
    for line in rules.read_text().splitlines() if rules.exists() else ():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and fnmatch(path, pattern):
            sent = line.startswith("!")
    return sent
