"""Time stands still, runs and jumps; deadlines fire in order, whatever they cause in between."""

import asyncio
import functools

import pytest
from anyio import fail_after
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from emulator.clock.clock import Clock, VirtualClock
from emulator.errors import ClockError

pytestmark = pytest.mark.anyio

#: Real seconds after which something that takes no time has failed.
HANGS_S = 10


@pytest.fixture
def clock():
    return VirtualClock(start_ms=1_000)


def fired(timers):
    return [(timer.at_ms, timer.kind) for timer in timers]


async def test_a_virtual_clock_stands_still_until_it_is_advanced(clock):
    assert clock.now_ms() == 1_000
    await clock.settle()
    assert clock.now_ms() == 1_000
    await clock.advance(250)
    assert clock.now_ms() == 1_250
    assert clock.mode == "frozen"


async def test_timers_fire_in_order_of_deadline_and_then_of_arming(clock):
    seen = []
    clock.call_later(30, "late", seen.append, "late")
    clock.call_later(10, "first", seen.append, "first")
    clock.call_at(1_010, "second", seen.append, "second")
    clock.call_later(31, "too late", seen.append, "too late")

    assert fired(await clock.advance(30)) == [(1_010, "first"), (1_010, "second"), (1_030, "late")]
    assert seen == ["first", "second", "late"]
    assert [timer.kind for timer in clock.pending()] == ["too late"]


async def test_a_timer_sees_the_time_it_was_armed_for(clock):
    seen = []
    for delay_ms in (5, 20):
        clock.call_later(delay_ms, "look", lambda _: seen.append(clock.now_ms()), None)
    await clock.advance(1_000)
    assert seen == [1_005, 1_020]


async def test_a_cancelled_timer_never_fires(clock):
    seen = []
    timer = clock.call_later(10, "cancelled", seen.append, 1)
    other = clock.call_later(10, "kept", seen.append, 2)
    clock.cancel(timer)
    clock.cancel(timer)
    clock.cancel(None)
    assert (clock.pending_count(), clock.next_timer()) == (1, other)
    await clock.advance(10)
    assert seen == [2]
    clock.cancel(other)
    assert clock.pending_count() == 0


async def test_a_timer_may_cancel_the_next_and_arm_another(clock):
    seen = []
    doomed = clock.call_later(20, "doomed", seen.append, "doomed")

    def first(_):
        clock.cancel(doomed)
        clock.call_later(5, "child", seen.append, "child")

    clock.call_later(10, "first", first, None)
    assert fired(await clock.advance(20)) == [(1_010, "first"), (1_015, "child")]
    assert seen == ["child"]


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=60), st.integers(0, 60))
def test_timers_against_a_sorted_list(timers, by_ms):
    async def scenario():
        clock = VirtualClock(start_ms=0)
        seen = []
        armed = [clock.call_at(when_ms, "any", seen.append, n) for n, (when_ms, _) in enumerate(timers)]
        for timer, (_, cancelled) in zip(armed, timers, strict=True):
            if cancelled:
                clock.cancel(timer)
        await clock.advance(by_ms)
        kept = [(when_ms, n) for n, (when_ms, cancelled) in enumerate(timers) if not cancelled]
        assert seen == [n for when_ms, n in sorted(kept) if when_ms <= by_ms]
        assert clock.pending_count() == len(clock.pending()) == len(kept) - len(seen)

    asyncio.run(scenario())


async def test_many_dead_timers_do_not_disturb_the_living(clock):
    seen = []
    dead = []
    for n in range(3_000):
        timer = clock.call_later(10 + n, "any", seen.append, n)
        if n % 100:
            dead.append(timer)
    for timer in dead:
        clock.cancel(timer)
    assert clock.pending_count() == len(clock.pending()) == 30
    await clock.advance(10_000)
    assert seen == list(range(0, 3_000, 100))
    assert clock.pending_count() == 0


async def test_the_work_a_timer_causes_settles_before_time_moves_on(clock):
    seen = []

    async def later(name):
        for _ in range(5):
            await checkpoint()
        seen.append((name, clock.now_ms()))
        clock.call_later(3, "grandchild", lambda _: seen.append(("grandchild", clock.now_ms())), None)

    tasks = []
    clock.call_later(
        10, "start", lambda _: tasks.append(asyncio.get_running_loop().create_task(later("task"))), None
    )
    clock.call_later(20, "end", lambda _: seen.append(("end", clock.now_ms())), None)
    await clock.advance(100)
    assert seen == [("task", 1_010), ("grandchild", 1_013), ("end", 1_020)]


async def test_sleepers_wake_one_after_the_other(clock):
    woken = []

    async def nap(times, each_ms):
        for _ in range(times):
            await clock.sleep(each_ms, "nap")
            woken.append((each_ms, clock.now_ms()))

    async with asyncio.TaskGroup() as naps:
        naps.create_task(nap(2, 40))
        naps.create_task(nap(1, 70))
        await clock.settle()
        assert fired(await clock.advance(100)) == [(1_040, "nap"), (1_070, "nap"), (1_080, "nap")]
    assert woken == [(40, 1_040), (70, 1_070), (40, 1_080)]


async def test_a_cancelled_sleeper_leaves_no_timer(clock):
    sleeper = asyncio.get_running_loop().create_task(clock.sleep(10))
    await clock.settle()
    sleeper.cancel()
    await clock.settle()
    assert sleeper.cancelled()
    assert clock.pending() == []


async def test_what_is_due_now_happens_without_any_advance(clock):
    with fail_after(HANGS_S):
        await clock.sleep(0)
    seen = []
    clock.call_at(900, "overdue", seen.append, 1)
    clock.call_later(0, "now", seen.append, 2)
    clock.call_later(1, "soon", seen.append, 3)
    await clock.settle()
    assert seen == [1, 2]


async def test_an_advance_reports_what_came_due_while_it_settled(clock):
    async def nap_briefly():
        await clock.sleep(10, "nap")
        await clock.sleep(0, "blink")

    nap = asyncio.get_running_loop().create_task(nap_briefly())
    assert fired(await clock.advance(10)) == [(1_010, "nap"), (1_010, "blink")]
    await nap


async def test_advances_at_the_same_time_add_up(clock):
    instants = []
    clock.call_later(150, "middle", lambda _: instants.append(clock.now_ms()), None)
    first, second = await asyncio.gather(clock.advance(100), clock.advance(100))
    assert (fired(first), fired(second)) == ([], [(1_150, "middle")])
    assert (instants, clock.now_ms()) == ([1_150], 1_200)


async def test_an_advance_by_nothing_lets_work_settle(clock):
    done = []

    async def work():
        await checkpoint()
        done.append(True)

    task = asyncio.get_running_loop().create_task(work())
    assert await clock.advance(0) == []
    assert done
    await task


@pytest.mark.parametrize("by_ms", [-1, -86_400_000])
async def test_time_does_not_go_backwards(clock, by_ms):
    with pytest.raises(ClockError, match="time only moves forward"):
        await clock.advance(by_ms)
    assert clock.now_ms() == 1_000


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_a_rate_is_zero_or_a_positive_number(rate):
    with pytest.raises(ClockError, match="rate"):
        Clock(rate=rate)


@pytest.mark.parametrize(
    ("rate", "mode"), [(0, "frozen"), (1, "real"), (60, "scaled:60"), (0.5, "scaled:0.5")]
)
def test_the_mode_is_named(rate, mode):
    assert Clock(rate=rate).mode == mode


async def test_a_running_clock_wakes_the_loop_by_itself():
    clock = Clock(rate=1_000_000)
    before_ms = clock.now_ms()
    await clock.sleep(60_000)
    assert clock.now_ms() >= before_ms + 60_000
    clock.close()


async def test_an_earlier_deadline_wakes_a_loop_that_waits_for_a_later_one():
    clock = Clock(rate=1_000_000)
    clock.call_later(1_000_000_000_000, "in thirty years", pytest.fail, "it fired")
    await clock.sleep(1_000)
    clock.close()


async def test_frozen_it_stays_where_it_was_and_resumes_from_there():
    clock = Clock(rate=1_000_000)
    clock.freeze()
    at_ms = clock.now_ms()
    await clock.settle()
    assert (clock.now_ms(), clock.mode, clock.rate) == (at_ms, "frozen", 0)

    sleeper = asyncio.get_running_loop().create_task(clock.sleep(60_000))
    await clock.settle()
    assert not sleeper.done()
    await clock.advance(59_999)
    assert not sleeper.done()

    clock.resume()
    assert clock.mode == "scaled:1e+06"
    await sleeper
    clock.close()


async def test_a_clock_made_frozen_resumes_in_real_time_and_is_restored_frozen(clock):
    clock.resume()
    assert (clock.mode, clock.now_ms() >= 1_000) == ("real", True)
    clock.restore()
    assert clock.mode == "frozen"


async def test_a_running_clock_can_be_advanced_as_well():
    clock = Clock(rate=1)
    seen = []
    clock.call_later(86_400_000, "a day", seen.append, "a day")
    before_ms = clock.now_ms()
    await clock.advance(86_400_000)
    assert seen == ["a day"]
    assert clock.now_ms() >= before_ms + 86_400_000
    clock.close()


async def test_an_advance_waits_for_work_in_real_time(clock):
    """A handler in a thread gets its moment before the next deadline comes."""
    loop = asyncio.get_running_loop()
    done_at_ms = []

    async def work():
        with clock.activity(patience_s=60):
            done = asyncio.Event()
            await loop.run_in_executor(None, functools.partial(loop.call_soon_threadsafe, done.set))
            await done.wait()
            done_at_ms.append(clock.now_ms())

    task = loop.create_task(work())
    await clock.advance(1_000)
    assert done_at_ms == [1_000]
    await task


async def test_the_patience_with_work_is_limited(clock):
    never = asyncio.Event()

    async def work():
        with clock.activity(patience_s=0.02):
            await never.wait()

    task = asyncio.get_running_loop().create_task(work())
    await clock.advance(1_000)
    assert (clock.now_ms(), task.done()) == (2_000, False)
    never.set()
    await task


async def test_work_that_waits_for_the_clock_does_not_hold_it(clock):
    """The patience is a minute, yet this takes no time: the sleeping work needs the advance itself."""
    naps = []

    async def work():
        with clock.activity(patience_s=60):
            for _ in range(3):
                await clock.sleep(100)
                naps.append(clock.now_ms())

    task = asyncio.get_running_loop().create_task(work())
    with fail_after(HANGS_S):
        await clock.advance(300)
    assert naps == [1_100, 1_200, 1_300]
    await task


async def test_a_closed_clock_fires_nothing_more(clock):
    seen = []
    timer = clock.call_later(10, "gone", seen.append, 1)
    clock.close()
    clock.cancel(timer)
    assert clock.pending_count() == 0
    await clock.advance(10)
    assert seen == []
