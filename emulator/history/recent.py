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
        self._items: deque[T] = deque()
        # Beside them, not in a pair with each: thousands of these come and go in a second.
        self._sizes: deque[int] = deque()
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

    def add(self, item: T, size: int) -> None:
        """Keep an item of about so many bytes; what there is no more room for goes."""
        items, sizes = self._items, self._sizes
        items.append(item)
        sizes.append(size)
        if len(items) > self._count_max:
            # Mostly it is full: one goes for each that comes.
            items.popleft()
            size -= sizes.popleft()
        self._bytes += size
        while self._bytes > self._bytes_max and len(items) > 1:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Let go of one."""
        self._items.popleft()
        self._bytes -= self._sizes.popleft()

    def forget(self, unwanted: Callable[[T], bool]) -> int:
        """Let go of the items that are `unwanted`; returns how many."""
        before = len(self._items)
        kept = [pair for pair in zip(self._items, self._sizes, strict=True) if not unwanted(pair[0])]
        self._items = deque(item for item, _ in kept)
        self._sizes = deque(size for _, size in kept)
        self._bytes = sum(self._sizes)
        return before - len(self._items)
