"""What has come last, within bounds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Kept(Protocol):
    """Something that is kept for a while."""

    @property
    def size(self) -> int:
        """About how many bytes of memory it holds; always the same."""


T = TypeVar("T", bound=Kept)


class Recent(Generic[T]):
    """The newest items: at most `count_max`, and `bytes_max` in all; the very newest, however large it is."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._items: deque[T] = deque()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """About how much it keeps."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """Oldest first."""
        return iter(self._items)

    def __reversed__(self) -> Iterator[T]:
        return reversed(self._items)

    def add(self, item: T) -> None:
        """Keep an item; what there is no more room for goes."""
        items, size = self._items, item.size
        items.append(item)
        if len(items) > self._count_max:
            # Mostly it is full: one goes for each that comes.
            size -= items.popleft().size
        self._bytes += size
        while self._bytes > self._bytes_max and len(items) > 1:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Let go of one."""
        self._bytes -= self._items.popleft().size

    def forget(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out the items that are `unwanted`, oldest first."""
        forgotten = [item for item in self._items if unwanted(item)]
        self._items = deque(item for item in self._items if not unwanted(item))
        self._bytes = sum(item.size for item in self._items)
        return forgotten
