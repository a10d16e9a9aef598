"""The commands in a sample's docstring, read as a newcomer's shell would read them."""

import ast
import shlex
from dataclasses import dataclass, field
from pathlib import Path

HANDLERS = Path(__file__).parents[2] / "handlers"
SAMPLES = sorted(path.name for path in HANDLERS.glob("*.py"))


@dataclass(frozen=True)
class Request:
    """What a curl command sends."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"


def commands(sample: str) -> list[str]:
    """The indented lines of the docstring, continued lines joined."""
    docstring = ast.get_docstring(ast.parse((HANDLERS / sample).read_text()), clean=False)
    assert docstring is not None
    joined = docstring.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.startswith("    ")]


def curl_commands(sample: str) -> list[str]:
    return [command for command in commands(sample) if command.startswith("curl ")]


def parse_curl(command: str) -> Request:
    words = iter(shlex.split(command)[1:])
    url, headers, body = "", {}, None
    for word in words:
        if word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words)
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        else:
            assert not word.startswith("-"), f"curl's {word} is not known here"
            url = word
    return Request(url, headers, body)
