"""A handler that is not async runs on a running loop, in the thread in which it was loaded.

So it is with every kind of worker. Only the main thread is what a thread of the emulator's is not.
"""

import json

import pytest

from tests.workers.kinds import workers_of

FORMS = {
    "handler": ("handlers_on_a_loop", "handler", ""),
    "generator": ("handlers_on_a_loop", "generator", ""),
}


@pytest.fixture(scope="module", params=["inline", "function", "script"])
def workers(request, tmp_path_factory):
    with workers_of(request.param, tmp_path_factory.mktemp(request.param), FORMS) as workers:
        yield workers


def output_of(workers, do, **more):
    body = workers.runsync("handler", {"do": do, **more})
    assert body["status"] == "COMPLETED", body
    return body["output"]


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("asyncio.run", "asyncio.run() cannot be called from a running event loop"),
        ("run_until_complete", "This event loop is already running"),
    ],
)
def test_a_loop_cannot_be_run_in_a_handler(workers, do, message):
    body = workers.runsync("handler", {"do": do})
    assert body["status"] == "FAILED"
    assert json.loads(body["error"])["error_message"] == message


@pytest.mark.parametrize(
    ("do", "output"),
    [
        ("in a task", True),
        ("at import", "worked"),
        ("sqlite", 0),
        ("thread-local", "loaded at import"),
    ],
)
def test_what_was_made_at_import_works_in_a_handler(workers, do, output):
    assert output_of(workers, do) == output


def test_all_jobs_of_a_worker_are_on_one_loop(workers):
    assert output_of(workers, "loop") == output_of(workers, "loop")


def test_what_one_job_sets_in_its_context_no_other_sees(workers):
    assert [output_of(workers, "context") for _ in range(2)] == ["unset", "unset"]


@pytest.mark.parametrize("do", ["create a task", "call later", "in an executor"])
def test_what_a_job_leaves_on_the_loop_goes_on_after_it(workers, do, tmp_path):
    output_of(workers, do, path=str(tmp_path / "done"))
    while not (tmp_path / "done").exists():
        workers.health("handler")


def test_a_coroutine_that_is_returned_runs_on_the_same_loop(workers, tmp_path):
    loop = output_of(workers, "loop")
    output_of(workers, "create a task", path=str(tmp_path / "done"))
    assert output_of(workers, "return a coroutine") == loop


def test_tasks_go_on_between_the_chunks_of_a_generator(workers):
    chunks = workers.chunks("generator", workers.run("generator", {"do": "stream"}))
    assert (chunks[0], chunks[-1]) == (False, True)


def test_only_a_process_has_the_main_thread(workers):
    body = workers.runsync("handler", {"do": "signal"})
    if workers.kind == "inline":
        assert "signal only works in main thread" in body["error"]
        assert "--worker-kind process" in workers.timeline(body["id"])
        assert output_of(workers, "main thread") is False
    else:
        assert body["output"] == "set"
        assert output_of(workers, "main thread") is True
