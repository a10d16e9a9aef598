"""The queue against the obvious list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.core.job import Job
from emulator.core.policy import ExecutionPolicy
from emulator.core.queue import JobQueue
from emulator.core.request import JobRequest

NORMAL = ExecutionPolicy(execution_timeout_ms=600_000)
LOW = ExecutionPolicy(execution_timeout_ms=600_000, low_priority=True)

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "prepend"]), st.booleans()),
        st.tuples(st.just("pop"), st.none()),
        st.tuples(st.just("remove"), st.integers(0, 100)),
        st.tuples(st.just("requeue"), st.integers(0, 100)),
    ),
    max_size=80,
)


def a_job(name: str, *, low: bool = False) -> Job:
    return Job(name, JobRequest(body=b'{"input":1}', policy=LOW if low else NORMAL), now_ms=0)


@given(steps)
def test_it_serves_in_order_whatever_is_added_and_removed(steps):
    queue, model = JobQueue(), []
    for number, (step, detail) in enumerate(steps):
        if step == "append":
            job = a_job(str(number), low=detail)
            queue.append(job)
            model.append(job)
        elif step == "prepend":
            job = a_job(str(number), low=detail)
            queue.prepend(job)
            model.insert(0, job)
        elif step == "pop":
            assert queue.pop() is (model.pop(0) if model else None)
        elif model:
            job = model.pop(detail % len(model))
            queue.remove(job)
            if step == "requeue":
                queue.append(job)
                model.append(job)
        assert len(queue) == len(model)
        assert queue.scaling_length == sum(not job.policy.low_priority for job in model)
        assert list(queue.scaling_jobs()) == [job for job in model if not job.policy.low_priority]
        assert sorted(queue, key=model.index) == model
    assert [queue.pop() for _ in range(len(model) + 1)] == [*model, None]


def test_low_priority_jobs_keep_their_place_among_the_others():
    queue = JobQueue()
    for name in ("a", "b low", "c", "d low"):
        queue.append(a_job(name, low=name.endswith("low")))
    assert [queue.pop().id for _ in range(4)] == ["a", "b low", "c", "d low"]


def test_it_can_be_emptied_while_it_is_walked():
    queue = JobQueue()
    for n in range(6):
        queue.append(a_job(str(n), low=n % 2 == 1))
    for job in queue:
        queue.remove(job)
    assert (len(queue), queue.pop(), list(queue)) == (0, None, [])


def test_a_job_that_has_left_is_not_held_by_its_former_neighbours():
    queue = JobQueue()
    first, second, third = (a_job(name) for name in "abc")
    for job in (first, second, third):
        queue.append(job)
    queue.remove(second)
    queue.append(second)
    assert [queue.pop(), queue.pop(), queue.pop()] == [first, third, second]


def test_it_gives_up_no_job_of_its_own_for_one_that_is_not_in_it():
    """Taking out a job that stood nowhere emptied the whole queue (attack.md 4)."""
    queue, other = JobQueue(), JobQueue()
    mine, elsewhere, nowhere = (a_job(name) for name in "abc")
    queue.append(mine)
    other.append(elsewhere)
    for stranger in (elsewhere, nowhere):
        with pytest.raises(ValueError, match="is not in th"):
            queue.remove(stranger)
    for put in (queue.append, queue.prepend):
        for taken in (mine, elsewhere):
            with pytest.raises(ValueError, match="in a queue already"):
                put(taken)
    assert (list(queue), len(queue), list(other)) == ([mine], 1, [elsewhere])
    assert (queue.pop(), queue.pop(), other.pop()) == (mine, None, elsewhere)
