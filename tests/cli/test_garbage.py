"""Collections of garbage are short however many jobs there are, and garbage is found all the same."""

import gc
import weakref

import pytest

from emulator.cli.garbage import Garbage

pytestmark = pytest.mark.anyio

FEW, MANY = 100, 1_000_000


class Cycle:
    def __init__(self):
        self.itself = self


@pytest.fixture
async def served():
    """How many jobs there are, and what looks after the garbage."""
    count = [FEW]
    garbage = Garbage(lambda: count[0])
    yield count, garbage
    garbage.leave()


def work():
    """Enough for many looks at what is new."""
    for _ in range(10):
        [[] for _ in range(10_000)]


def outlived():
    """A cycle that is there at a look, and becomes garbage after it."""
    cycle = Cycle()
    work()
    return weakref.ref(cycle)


async def test_what_is_new_is_found_at_once(served):
    seen = weakref.ref(Cycle())
    work()
    assert seen() is None


async def test_what_has_outlived_a_look_is_found_by_a_look_at_all_alone(served):
    _, garbage = served
    seen = outlived()
    work()
    assert seen() is not None
    garbage.look_at_all()
    assert seen() is None


async def test_nothing_is_looked_at_that_would_take_long(served):
    count, garbage = served
    count[0] = MANY
    seen = outlived()
    garbage.look_at_all()
    assert seen() is not None
    count[0] = FEW
    garbage.look_at_all()
    assert seen() is None


async def test_where_nothing_has_come_there_is_no_look_at_all(served):
    _, garbage = served
    seen = outlived()
    garbage.look_at_all()
    assert seen() is None
    idle = Cycle()
    seen = weakref.ref(idle)
    gc.collect(0)
    garbage.look_at_all()
    del idle
    garbage.look_at_all()
    assert seen() is not None


async def test_what_was_there_before_is_not_looked_at_until_it_leaves():
    cycle = Cycle()
    garbage = Garbage(lambda: FEW)
    try:
        assert not any(each is cycle for each in gc.get_objects())
    finally:
        garbage.leave()
    assert any(each is cycle for each in gc.get_objects())
