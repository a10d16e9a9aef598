"""JSON paths of users (RFC 9535), followed within a limit: what would take ages finds nothing."""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jsonpath import JSONPathEnvironment
from jsonpath.function_extensions import Match, Search

from emulator.scenario.patterns import TooSlow, compiled, found_in, matches_whole

if TYPE_CHECKING:
    from jsonpath import CompoundJSONPath, JSONPath

#: How many values may be looked at on the way to those that are wanted.
_STEPS_MAX = 50_000
#: How deep a value is looked at.
_DEPTH_MAX = 100


class _Steps(threading.local):
    """How many are left for the path that is being followed in this thread."""

    left = _STEPS_MAX


class _Match(Match):
    def __call__(self, value: object, pattern: object) -> bool:
        return _of_texts(matches_whole, value, pattern)


class _Search(Search):
    def __call__(self, value: object, pattern: object) -> bool:
        return _of_texts(found_in, value, pattern)


def _of_texts(finds: Any, value: object, pattern: object) -> bool:
    if not isinstance(value, str) or not isinstance(pattern, str):
        return False
    try:
        return bool(finds(compiled(pattern), value))
    except ValueError:
        # RFC 9535: what is no pattern matches nothing.
        return False


class _Environment(JSONPathEnvironment):
    """Counts at each place to which a path may lead over and over again."""

    def __init__(self) -> None:
        self.steps = _Steps()
        super().__init__()

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _Match()
        self.function_extensions["search"] = _Search()

    @property
    def max_recursion_depth(self) -> int:  # type: ignore[override]
        """Asked for at each value that `..` comes to."""
        self._take()
        return _DEPTH_MAX

    def is_truthy(self, obj: object) -> bool:
        self._take()
        return super().is_truthy(obj)

    def compare(self, left: object, operator: str, right: object) -> bool:
        self._take()
        if operator == "=~" and isinstance(right, re.Pattern) and isinstance(left, str):
            return matches_whole(right, left)
        return super().compare(left, operator, right)

    def _take(self) -> None:
        self.steps.left -= 1
        if self.steps.left < 0:
            raise TooSlow(f"the path leads over more than {_STEPS_MAX} values")


_environment = _Environment()


@lru_cache(maxsize=1_000)
def path_of(text: str) -> JSONPath | CompoundJSONPath:
    """A path, to be followed.

    :raises jsonpath.JSONPathError: it is none.
    :raises RecursionError: it is nested too deeply.
    """
    return _environment.compile(text)


def found_at(path: str, value: Any) -> list[object]:
    """The values at a path.

    :raises TooSlow: to find them would take too long.
    :raises jsonpath.JSONPathError: it cannot be followed there.
    """
    _environment.steps.left = _STEPS_MAX
    return path_of(path).findall(value)
