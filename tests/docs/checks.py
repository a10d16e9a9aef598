"""What can be said of a block without running it, by its language."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import typer
import yaml

from emulator.cli import cli
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.docs.pages import Block


def python(block: Block) -> None:
    ast.parse(block.code, str(block))


def shell(block: Block) -> None:
    _shell(block.code)


def javascript(block: Block) -> None:
    """Only running it tells."""


def json_text(block: Block) -> None:
    json.loads(block.code)


def toml(block: Block) -> None:
    """TOML; in an emulator.toml every key is an option of `serve`."""
    content = tomllib.loads(block.code)
    if block.file_name == "emulator.toml":
        tables = content.pop("endpoints", {}).values()
        keys = {*content, *(key for table in tables for key in table)}
        unknown = keys - {name.removeprefix("--") for name in _options(_command("serve"))}
        assert unknown <= {"handler", "args", "env"}, f"serve has no option for {unknown}"


def yaml_text(block: Block) -> None:
    """YAML; in a workflow every step has something to do, and its commands are a shell's."""
    for step in (each for document in yaml.safe_load_all(block.code) for each in _steps(document)):
        assert "uses" in step or "run" in step
        _shell(step.get("run", ""))


def console(block: Block) -> None:
    """What is typed after a `$`: our commands, their options and the Makefile's targets exist."""
    typed = [line.strip()[2:] for line in block.code.splitlines() if line.strip().startswith("$ ")]
    assert typed, "a console block shows what is typed after a $"
    for line in typed:
        _shell(line)
        match shlex.split(line, comments=True):
            case ["make", *targets]:
                names = {target for target in targets if "=" not in target}
                assert names <= _make_targets(), line
            case ["runpod-emulator", *words]:
                _our_command(words)


CHECKS: dict[str, Callable[[Block], None]] = {
    "python": python,
    "sh": shell,
    "javascript": javascript,
    "json": json_text,
    "toml": toml,
    "yaml": yaml_text,
    "console": console,
}


def _steps(content: Any) -> Iterator[Any]:
    """What stands under any `steps` of a workflow."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from value if key == "steps" else _steps(value)


def _shell(code: str) -> None:
    done = subprocess.run(["sh", "-n"], input=code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _our_command(words: list[str]) -> None:
    command: Any = _command()
    if "--" in words:
        words = words[: words.index("--")]
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in _options(command), f"{command.name} has no option {word}"
        elif subcommands := getattr(command, "commands", {}):
            assert word in subcommands, f"runpod-emulator has no command {word}"
            command = subcommands[word]


def _command(*names: str) -> Any:
    command: Any = typer.main.get_command(cli)
    for name in names:
        command = command.commands[name]
    return command


def _options(command: Any) -> set[str]:
    options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    return options | {"--help"}


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
