"""Text from outside, made safe for a terminal: it cannot move the cursor, nor look like a line of ours."""

from __future__ import annotations

import re

#: Colours, which handlers like to print: they go without a trace.
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
#: Whatever else a terminal obeys, Unicode's own line ends, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: A job's id; what follows its first part a person need not see.
_JOB_ID = re.compile(r"([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:-\w\d)?")
_NEXT_LINE = re.compile(r"\n(?!    )")


def printable(text: str) -> str:
    """The text with control characters shown instead of obeyed; line ends and tabs stay."""
    # Nothing of what follows counts as printable.
    if text.isprintable() or text.replace("\n", "").isprintable():
        return text
    return _CONTROL.sub(lambda match: _shown(match[0]), _COLOUR.sub("", text))


def one_entry(text: str) -> str:
    """The text as one entry of the log: what follows its first line is indented."""
    shown = printable(text)
    return _NEXT_LINE.sub("\n    ", shown) if "\n" in shown else shown


def _shown(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def short_ids(text: str) -> str:
    """A text with as much of each job's id as tells it from others; the commands take it for the whole."""
    return _JOB_ID.sub(r"\1", text)
