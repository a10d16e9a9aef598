"""Whatever can be called is a handler, and streams when it streams in production.

The SDK asks `inspect` about the handler itself: what only returns a generator, as an object whose `__call__`
yields, gives it an output that is not JSON. It loses such a job; here the other kinds of worker say why.
"""

import pytest

from tests.workers.kinds import workers_of

MODULE = "handlers_that_are_objects"
RETURNED = [
    ("an_object", "returned"),
    ("a_partial", "returned"),
    ("an_async_object", "awaited"),
    ("an_async_partial", "awaited"),
    ("a_wrapper_of_an_async_function", "awaited"),
]
STREAMED = [
    "a_method_that_yields",
    "an_async_method_that_yields",
    "a_partial_that_yields",
    "an_async_partial_that_yields",
]
LOST = [
    ("an_object_that_yields", "generator"),
    ("an_object_that_yields_async", "async_generator"),
    ("a_partial_of_an_object_that_yields", "generator"),
    ("a_wrapper_of_a_generator", "generator"),
]
NAMES = [*dict(RETURNED), *STREAMED, *dict(LOST)]


@pytest.fixture(scope="module", params=["inline", "function", "script"])
def jobs(request, tmp_path_factory):
    """The workers, and a job of each handler: those of all handlers run at the same time."""
    folder = tmp_path_factory.mktemp(request.param)
    with workers_of(request.param, folder, {name: (MODULE, name, "") for name in NAMES}) as workers:
        yield workers, {name: workers.run(name, {"any": 1}) for name in NAMES}


@pytest.mark.parametrize(("name", "output"), RETURNED)
def test_what_is_returned_is_the_output(jobs, name, output):
    workers, ids = jobs
    assert workers.ended(name, ids[name])["output"] == output


@pytest.mark.parametrize("name", STREAMED)
def test_a_function_that_yields_streams(jobs, name):
    workers, ids = jobs
    assert workers.chunks(name, ids[name]) == [1, 2]
    assert workers.ended(name, ids[name])["status"] == "COMPLETED"


@pytest.mark.parametrize(("name", "type_name"), LOST)
def test_a_generator_that_is_returned_fails_the_job(jobs, name, type_name):
    workers, ids = jobs
    body = workers.ended(name, ids[name])
    assert body["status"] == "FAILED"
    if workers.kind == "script":
        assert body["error"] == "job timed out after 1 retries"
    else:
        assert body["error"].startswith(f"output is of type {type_name}, which JSON cannot express")
        assert "production loses such a job" in body["error"]
