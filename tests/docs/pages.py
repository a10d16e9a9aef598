"""The pages of the documentation, and the fenced blocks in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCED = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)``` *$", re.MULTILINE | re.DOTALL
)
#: A comment in a block's first line that is a file's name, and nothing else.
_NAME = re.compile(r"(?:#|//) *(?P<name>[\w./-]+\.\w+)$")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    #: The page's path from the root of the project.
    page: str
    #: Where it begins.
    line: int
    #: What follows the fence; empty when nothing does.
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """The file that a reader is told to save it as, in its first line."""
        named = _NAME.match(self.code.partition("\n")[0])
        return None if named is None else named["name"]


def pages() -> list[str]:
    """README.md and every page of docs/."""
    return ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_in(page: str, text: str) -> list[Block]:
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            code=textwrap.dedent(found["code"]),
        )
        for found in _FENCED.finditer(text)
    ]


def all_blocks() -> list[Block]:
    return [block for page in pages() for block in blocks_in(page, text_of(page))]
