"""Collections of garbage are short however many jobs there are, and garbage is found all the same."""

import gc
import weakref

import pytest

from emulator.cli.garbage import Garbage


class Cycle:
    def __init__(self):
        self.itself = self


@pytest.fixture
def jobs():
    """How many there are."""
    count = [0]
    garbage = Garbage(lambda: count[0])
    yield count
    garbage.leave()


def test_what_has_outlived_a_look_is_not_looked_at_again_while_there_are_many_jobs(jobs):
    jobs[0] = 1_000_000
    kept = [[] for _ in range(1_000)]
    gc.collect()
    assert not any(each is kept for each in gc.get_objects())
    jobs[0] = 0
    gc.collect()
    assert any(each is kept for each in gc.get_objects())


def test_what_becomes_garbage_meanwhile_is_found_once_the_jobs_are_gone(jobs):
    jobs[0] = 1_000_000
    cycle = Cycle()
    seen = weakref.ref(cycle)
    gc.collect()
    del cycle
    gc.collect()
    assert seen() is not None
    jobs[0] = 0
    gc.collect()
    gc.collect()
    assert seen() is None


def test_where_there_are_few_jobs_all_is_looked_at(jobs):
    jobs[0] = 100
    cycle = Cycle()
    seen = weakref.ref(cycle)
    gc.collect()
    del cycle
    gc.collect()
    assert seen() is None
