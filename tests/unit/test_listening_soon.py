"""One timer listens for the clients of all calls that wait for long."""

import pytest

from emulator.api.exchange import ListeningSoon
from emulator.clock.real_time import next_round

pytestmark = pytest.mark.anyio


class Waiting:
    """A call, as far as it matters here."""

    def __init__(self):
        self.listened = 0

    def listen(self):
        self.listened += 1


@pytest.fixture
def soon(monkeypatch):
    """It looks in every round of the loop."""
    monkeypatch.setattr("emulator.api.exchange._LISTEN_AFTER_S", 0)
    return ListeningSoon()


async def rounds():
    for _ in range(10):
        await next_round()


async def test_a_call_that_waits_on_is_listened_for_once(soon):
    call = Waiting()
    soon.add(call)
    await rounds()
    assert call.listened == 1


async def test_one_that_ends_soon_is_not(soon):
    call = Waiting()
    soon.add(call)
    soon.discard(call)
    await rounds()
    assert call.listened == 0


async def test_one_that_ends_after_the_first_look_is_not_either(soon):
    call = Waiting()
    soon.add(call)
    while call in soon._new:
        await next_round()
    soon.discard(call)
    await rounds()
    assert call.listened == 0
