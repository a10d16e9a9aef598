"""A Dockerfile read, and its builder's steps run in a folder, where there is no container engine."""

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

PROJECT = Path(__file__).parents[2]


@dataclass
class Stage:
    """What is between one FROM and the next."""

    image: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

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


def read_dockerfile(path: Path) -> list[Stage]:
    stages: list[Stage] = []
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        instruction, _, argument = line.partition(" ")
        if instruction == "FROM":
            image, _, name = argument.partition(" AS ")
            stages.append(Stage(image, name))
        else:
            stages[-1].steps.append((instruction, argument.strip()))
    return stages


class Root:
    """A folder that stands for the image's `/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, text: str) -> str:
        """The text with the image's own absolute paths in this folder."""
        return re.sub(r"(?<![\w.])/(?=(src|dist|opt|app)\b)", f"{self.folder}/", text)

    def run_steps(self, stage: Stage, **environment: str) -> None:
        """Run a stage's instructions in order; this test's Python stands for the base image's."""
        environment = {
            "HOME": os.environ.get("HOME", "/"),
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            **environment,
        }
        workdir = self.folder
        for instruction, argument in stage.steps:
            if instruction == "ENV":
                environment |= dict(_pairs(argument))
            elif instruction == "WORKDIR":
                workdir = Path(self.place(argument))
                workdir.mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                *sources, target = argument.split()
                for source in sources:
                    copy_from_context(source, workdir / target)
            else:
                assert instruction == "RUN", f"{instruction} is not known here"
                command = ["/bin/sh", "-ec", self.place(argument)]
                subprocess.run(command, cwd=workdir, env=environment, timeout=120, check=True)


def _pairs(argument: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (word.partition("=") for word in shlex.split(argument))]


def copy_from_context(source: str, target: Path) -> None:
    """COPY: a file into a folder, or a folder's content, without what .dockerignore leaves out."""
    assert is_sent(source), f"COPY {source}: .dockerignore leaves it out"
    if (PROJECT / source).is_dir():
        shutil.copytree(PROJECT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(PROJECT / source, target)


def is_sent(path: str) -> bool:
    """Whether a top-level path is part of the build context; the last matching line counts."""
    sent = True
    for line in (PROJECT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and fnmatch(path, pattern):
            sent = line.startswith("!")
    return sent
