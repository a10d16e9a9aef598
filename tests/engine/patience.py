"""Waiting for what an engine does by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def until(condition: Callable[[], _T]) -> _T:
    """Ask again and again; the run's own limit ends what never comes."""
    while not (found := condition()):
        pass
    return found
