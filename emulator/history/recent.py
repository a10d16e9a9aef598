"""What has come last, within bounds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Recent(Generic[T]):
    """The newest items: at most `count_max`, and `bytes_max` in all; the very newest, however large it is."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """About how much it keeps."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        """Oldest first."""
        return (item for item, _ in self._items)

    def __reversed__(self) -> Iterator[T]:
        return (item for item, _ in reversed(self._items))

    def add(self, item: T, size: int) -> None:
        """Keep an item of about so many bytes; what there is no more room for goes."""
        items = self._items
        items.append((item, size))
        if len(items) > self._count_max:
            # Mostly it is full: one goes for each that comes.
            size -= items.popleft()[1]
        self._bytes += size
        while self._bytes > self._bytes_max and len(items) > 1:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Let go of one."""
        self._bytes -= self._items.popleft()[1]

    def forget(self, unwanted: Callable[[T], bool]) -> int:
        """Let go of the items that are `unwanted`; returns how many."""
        before = len(self._items)
        self._items = deque(kept for kept in self._items if not unwanted(kept[0]))
        self._bytes = sum(size for _, size in self._items)
        return before - len(self._items)
