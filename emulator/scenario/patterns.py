"""Regular expressions of users, matched within a limit: one that needs ages for a text does not match it."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

log = logging.getLogger("emulator")

#: Seconds of the processor for one text, and how often a pattern may need more before it is given up.
_LIMIT_S = 0.05
_TRIES = 3
#: Characters of a pattern: compiling takes time, too.
_LENGTH_MAX = 10_000
_FLAGS = re.A | re.I | re.M | re.S | re.X


class TooSlow(Exception):
    """A pattern or a path would take too long here."""


class _Pattern:
    """A pattern for the engine that can be limited, which understands all that Python's own does."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        # Loaded with the first pattern: most emulators have none.
        import regex

        self._pattern: Any = regex.compile(pattern.pattern, int(pattern.flags & _FLAGS))
        self._tries = _TRIES

    def finds(self, how: str, text: str) -> bool:
        if not self._tries:
            raise TooSlow("the pattern has been given up: it takes too long")
        try:
            return getattr(self._pattern, how)(text, timeout=_LIMIT_S) is not None
        except TimeoutError:
            self._tries -= 1
            shown = self._pattern.pattern[:100]
            fate = "" if self._tries else " It is given up: from now on it matches nothing."
            log.warning(
                "the pattern %r takes over %g s for a text of %d characters: taken for no match.%s",
                shown, _LIMIT_S, len(text), fate,
            )  # fmt: skip
            raise TooSlow(f"the pattern takes over {_LIMIT_S:g} s") from None


@lru_cache(maxsize=1_000)
def _limited(pattern: re.Pattern[str]) -> _Pattern:
    return _Pattern(pattern)


def found_in(pattern: re.Pattern[str], text: str) -> bool:
    """Whether the pattern is found in the text.

    :raises TooSlow: that would take too long.
    """
    return _limited(pattern).finds("search", text)


def matches_whole(pattern: re.Pattern[str], text: str) -> bool:
    """Whether the pattern matches the whole text.

    :raises TooSlow: that would take too long.
    """
    return _limited(pattern).finds("fullmatch", text)


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of Python's that can be matched within a limit.

    :raises ValueError: it is none; the message says why.
    """
    if len(pattern) > _LENGTH_MAX:
        raise ValueError(f"it is longer than {_LENGTH_MAX} characters")
    try:
        found = re.compile(pattern)
        _limited(found)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:
        # Each engine has errors of its own.
        raise ValueError(str(error)) from error
    return found
