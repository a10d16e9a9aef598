"""What is kept stays within its bounds, and the newest is always there."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from emulator.history.recent import Recent

SIZES = st.lists(st.integers(0, 50))


class Item(NamedTuple):
    number: int
    size: int


@given(sizes=SIZES, count_max=st.integers(1, 10), bytes_max=st.integers(0, 100))
def test_the_newest_that_there_is_room_for(sizes, count_max, bytes_max):
    recent = Recent(count_max, bytes_max)
    for item in enumerate(sizes):
        recent.add(Item(*item))
    kept = list(recent)
    assert kept == list(enumerate(sizes))[len(sizes) - len(recent) :]
    assert list(reversed(recent)) == kept[::-1]
    assert len(recent) <= count_max
    assert sum(size for _, size in kept) <= bytes_max or len(recent) == 1
    older = sizes[: len(sizes) - len(recent)]
    # There was no room for one more.
    assert not older or len(recent) == count_max or older[-1] + sum(size for _, size in kept) > bytes_max


@given(sizes=SIZES)
def test_what_is_forgotten_makes_room(sizes):
    recent = Recent(100, 1_000)
    for item in enumerate(sizes):
        recent.add(Item(*item))
    before = list(recent)
    assert recent.forget(lambda item: item.number % 2 == 0) == [
        item for item in before if item.number % 2 == 0
    ]
    assert list(recent) == [item for item in before if item.number % 2]
    room = 1_000 - sum(size for _, size in recent)
    fits = Item(-1, room)
    recent.add(fits)
    assert list(recent) == [*(item for item in before if item.number % 2), fits]
