"""docs/design.md names every file of the product, and no other."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_rooms_have_every_file():
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    tree = page.partition("## The rooms")[2].partition("```\n\n")[0]
    named = set(re.findall(r"(?<![\w*/])(\w+\.py)\b", tree))
    there = {
        path.name
        for path in (ROOT / "emulator").rglob("*.py")
        if path.parent.name not in ("client", "control", "openai", "on_path")
    }
    there -= {"__init__.py", "__main__.py"}
    assert sorted(there - named) == []
    unnamed_rooms = {path.name for path in (ROOT / "emulator").rglob("*.py")}
    assert sorted(named - unnamed_rooms) == []
