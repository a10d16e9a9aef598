"""The plugin as users meet it: in pytest runs of their own."""

import json
import re

import pytest

from emulator import Emulator
from tests import quick_pytest
from tests.limits import PATIENCE_S


@pytest.fixture
def run(pytester, monkeypatch):
    """Run tests in a pytest of their own; returns its result."""
    for name, value in quick_pytest.VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(quick_pytest.ARGUMENTS))
    monkeypatch.delenv("RUNPOD_ENDPOINT_BASE_URL", raising=False)

    def run_tests(source, *arguments):
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess(*arguments, timeout=PATIENCE_S)

    return run_tests


def test_every_fixture_works_without_an_import(run, monkeypatch):
    # It is found by its entry point, beside whatever else is installed.
    for name in (*quick_pytest.VARIABLES, "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name)
    result = run(
        """
        import pytest

        def test_stub(endpoint):
            endpoint.when(input={"prompt": "hi"}).returns({"text": "ho"})
            assert endpoint.runsync({"prompt": "hi"})["output"] == {"text": "ho"}

        def test_clock(endpoint, emulator_clock, webhook_sink):
            webhook_sink.answers(500, 500)
            endpoint.submit({"n": 1}, webhook=webhook_sink.url)
            webhook_sink.wait(1)
            emulator_clock.advance(20_000)
            assert [each["status"] for each in webhook_sink.deliveries] == [500, 500, 200]

        @pytest.mark.emulator(handler=lambda job: job["input"]["n"] + 1, workers_max=1)
        def test_handler(endpoint):
            assert endpoint.runsync({"n": 1})["output"] == 2

        @pytest.mark.emulator(faults=["api-outage"])
        class TestMarked:
            def test_class_marker(self, endpoint):
                assert endpoint.client.get("health").status_code == 503

            @pytest.mark.emulator(faults=[{"times": 1, "then": {"status": 429}}])
            def test_own_marker_wins(self, endpoint):
                codes = [endpoint.client.get("health").status_code for _ in range(2)]
                assert codes == [429, 200]

        def test_many(make_endpoint):
            first, second = make_endpoint(handler=lambda job: 1), make_endpoint(handler=lambda job: 2)
            assert [each.runsync({"n": 1})["output"] for each in (first, second)] == [1, 2]

        def test_session(emulator, endpoint):
            assert endpoint.url.startswith(emulator.base_url)
        """
    )
    result.assert_outcomes(passed=7)


def test_the_sdk_is_pointed_here_even_if_it_was_imported_before(run):
    result = run(
        """
        import asyncio, aiohttp, runpod

        def test_sync(runpod_env, endpoint):
            endpoint.when().returns("hello")
            assert runpod.Endpoint(endpoint.id).run_sync({"n": 1}) == "hello"
            assert endpoint.requests[0].operation == "runsync"

        def test_async(runpod_env, endpoint):
            async def main():
                async with aiohttp.ClientSession() as session:
                    job = await runpod.AsyncioEndpoint(endpoint.id, session).run({"n": 1})
                    return await job.output(timeout=30)

            endpoint.when().returns("hello")
            assert asyncio.run(main()) == "hello"

        def test_afterwards_it_is_as_it_was():
            assert runpod.endpoint_url_base == "https://api.runpod.ai/v2"
        """
    )
    result.assert_outcomes(passed=3)


def test_an_sdk_imported_within_the_test_is_put_back_too(run):
    result = run(
        """
        def test_sync(runpod_env, endpoint):
            import runpod
            runpod.api_key = runpod_env.api_key
            endpoint.when().returns("hello")
            assert runpod.Endpoint(endpoint.id).run_sync({"n": 1}) == "hello"

        def test_afterwards():
            import runpod
            assert runpod.endpoint_url_base == "https://api.runpod.ai/v2"
        """
    )
    result.assert_outcomes(passed=2)


def test_an_sdk_imported_within_the_test_has_the_emulator_s_key(run, monkeypatch):
    monkeypatch.setenv("RUNPOD_API_KEY", "the-user-s")
    monkeypatch.setenv("RUNPOD_ENDPOINT_BASE_URL", "https://elsewhere.example/v2")
    result = run(
        """
        import os

        def test_it(runpod_env, endpoint):
            import runpod
            assert (runpod.api_key, runpod.endpoint_url_base) == (runpod_env.api_key, runpod_env.base_url)
            endpoint.when().returns("hello")
            assert runpod.Endpoint(endpoint.id).run_sync({"n": 1}) == "hello"

        def test_afterwards():
            import runpod
            assert (runpod.api_key, os.environ["RUNPOD_API_KEY"]) == ("the-user-s", "the-user-s")
            assert runpod.endpoint_url_base == "https://elsewhere.example/v2"
        """
    )
    result.assert_outcomes(passed=2)


def test_a_stub_of_the_sdk_is_left_alone(run):
    result = run(
        """
        import os, sys, types

        sys.modules["runpod"] = types.ModuleType("runpod")

        def test_it(runpod_env, endpoint):
            import runpod
            assert vars(runpod).keys() & {"api_key", "endpoint_url_base"} == set()
            assert os.environ["RUNPOD_ENDPOINT_BASE_URL"] == runpod_env.base_url
            assert endpoint.runsync({"mock_return": 1})["output"] == 1
        """
    )
    result.assert_outcomes(passed=1)


def test_a_fixture_of_the_user_s_in_the_place_of_ours_is_named(run):
    result = run(
        """
        import pytest

        @pytest.fixture
        def endpoint():
            return "https://example.com"

        def test_clock(emulator_clock): pass
        def test_sink(endpoint, webhook_sink): pass
        """
    )
    result.assert_outcomes(errors=2)
    for name in ("emulator_clock", "webhook_sink"):
        result.stdout.fnmatch_lines(
            [f"{name} is that of runpod-emulator's fixture `endpoint`, and this test finds another in its*"]
        )


def test_a_package_of_the_user_s_with_our_name_is_told_of(pytester, run):
    pytester.makepyfile(**{"tests/emulator/__init__": "", "tests/emulator/test_x": "def test_x(): pass"})
    result = run("def test_y(): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*is called like the package of runpod-emulator*rename it*"])


def test_a_call_of_the_real_api_fails_with_what_to_do(run):
    result = run(
        """
        import asyncio, contextlib, urllib.request
        import aiohttp, httpx, requests
        import pytest

        URL = "https://api.runpod.ai/v2/ep/health"

        @pytest.mark.parametrize("call", [requests.get, httpx.get, urllib.request.urlopen])
        def test_loud(runpod_env, call):
            call(URL)

        def test_async(runpod_env):
            async def main():
                async with aiohttp.ClientSession() as session:
                    await session.get(URL)
            asyncio.run(main())

        def test_swallowed(runpod_env):
            with contextlib.suppress(Exception):
                requests.get(URL)
        """
    )
    result.assert_outcomes(failed=4, passed=1, errors=1)
    text = result.stdout.str()
    assert text.count("RealAPICall: A call of the real API was stopped: api.runpod.ai.") >= 4
    assert re.search(r"The emulator is at http://127\.0\.0\.1:\d+/v2: make the client within the test", text)
    assert "The code under test has swallowed this." in text


def test_a_failed_test_tells_what_happened_to_its_jobs(run, pytester):
    result = run(
        """
        import pytest

        @pytest.mark.emulator(clock="frozen", faults=[{"id": "no-gpu", "then": {"crash": "before"}}])
        def test_it(endpoint):
            job = endpoint.submit({"prompt": "hi"}, s3Config={"accessSecret": "very secret"})
            endpoint.clock.advance_until(job, "FAILED")
            endpoint.client.get("status/nope")
            assert job.status == "COMPLETED"

        def test_fine(endpoint):
            endpoint.submit({"n": 1})
        """,
        "--emulator-artifacts=kept",
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.re_match_lines_random(
        [
            "-+ runpod-emulator: test-.* -+",
            "3 calls:|2 calls:",
            r"  POST /v2/.*/run → 200",
            r"  GET /v2/.*/status/nope → 404  job not found.*",
            "job .*, input {'prompt': 'hi'}",
            " +0 ms  IN_QUEUE$",
            r" +0 ms  fault 'no-gpu': crash: before",
            r" +\d+ ms  IN_PROGRESS → FAILED, .*job timed out after 1 retries",
            "kept in kept/.*",
        ]
    )
    (folder,) = (pytester.path / "kept").iterdir()
    assert "test_it" in folder.name
    (kept,) = folder.iterdir()
    assert {path.name for path in kept.iterdir()} == {"story.txt", "journal.jsonl", "journal.har"}
    lines = [json.loads(line) for line in (kept / "journal.jsonl").read_text().splitlines()]
    assert any(line["fault"] == "no-gpu" for line in lines)
    assert "very secret" not in "".join(path.read_text() for path in kept.iterdir())


def test_paths_start_at_the_rootdir_wherever_pytest_is_started(pytester, run, monkeypatch):
    pytester.makeini("[pytest]")
    pytester.makepyfile(**{
        "src/utils": "X = 3",
        "src/handler": """
            import os, utils
            def run(job):
                return [utils.X, os.getcwd()]
        """,
    })  # fmt: skip
    below = pytester.mkdir("below")
    (below / "test_it.py").write_text(
        """
import os
import pytest

ROOT = os.path.dirname(os.path.dirname(__file__))

@pytest.mark.emulator(handler="src/handler.py:run")
def test_inline(endpoint):
    assert endpoint.runsync({"a": 1})["output"] == [3, os.getcwd()]

@pytest.mark.emulator(handler="src/handler.py:run", worker_kind="process")
def test_process(endpoint, make_endpoint):
    assert endpoint.runsync({"a": 1})["output"] == [3, ROOT]
    other = make_endpoint(handler="handler.py:run", workdir="src")
    assert other.runsync({"a": 1})["output"] == [3, os.path.join(ROOT, "src")]

@pytest.mark.emulator(command=["sh", "-c", "pwd; sleep 600"], workdir="below", worker_kind="process")
def test_command(endpoint, emulator):
    endpoint.submit({"a": 1})
    while not (workers := emulator.control("GET", "/workers")["workers"]):
        pass
    lines = next(emulator.follow(f"/workers/{workers[-1]['id']}/logs"))
    assert lines["text"] == os.path.join(ROOT, "below")

def test_refused(make_endpoint):
    with pytest.raises(Exception, match="inline workers run in the emulator's own folder"):
        make_endpoint(handler="src/handler.py:run", workdir=os.path.join(ROOT, "src"))
    with pytest.raises(Exception, match="it must be 'process'"):
        make_endpoint(command="sh x.sh")
"""
    )
    monkeypatch.chdir(below)
    run("").assert_outcomes(passed=4)


def test_a_job_that_no_worker_takes_is_reported_with_why(run, pytester):
    pytester.makepyfile(needs="import no_such_package\ndef handler(job):\n    return 1\n")
    result = run(
        """
        import pytest

        @pytest.mark.emulator(handler="needs.py:handler", worker_kind="process")
        def test_waiting(endpoint):
            job = endpoint.submit({"n": 1})
            endpoint.journal.wait({"to": "unhealthy"}, kind="pool", timeout_s=60)
            job.wait(timeout_s=0.1)
        """
    )
    result.assert_outcomes(failed=1)
    sentence = (
        "no worker of 'test-.*' starts: ModuleNotFoundError: No module named 'no_such_package': .* -m pip"
    )
    result.stdout.re_match_lines_random(
        [f"E +TimeoutError: job .* is IN_QUEUE after 0.1 s: {sentence}.*", f"  waiting: {sentence}.*"]
    )


def test_tests_are_isolated_under_xdist(run):
    result = run(
        """
        import pytest

        @pytest.mark.parametrize("number", range(40))
        def test_own(endpoint, webhook_sink, emulator_clock, number):
            endpoint.when(input={"n": number}).returns(number)
            job = endpoint.submit({"n": number}, webhook=webhook_sink.url)
            webhook_sink.wait(1)
            emulator_clock.advance(86_400_000)
            assert [request.input for request in endpoint.requests] == [{"n": number}]
            assert [body["output"] for body in webhook_sink.bodies] == [number]
        """,
        "-p", "xdist", "-n4",
    )  # fmt: skip
    result.assert_outcomes(passed=40)


def test_it_is_the_same_in_async_tests(run):
    source = """
        import httpx
        import pytest

        pytestmark = pytest.mark.{plugin}

        @pytest.mark.emulator(handler=lambda job: job["input"])
        async def test_it(endpoint, emulator_clock, webhook_sink):
            async with httpx.AsyncClient(headers={{"authorization": endpoint.api_key}}) as client:
                answer = await client.post(
                    endpoint.url + "/runsync", json={{"input": {{"n": 1}}, "webhook": webhook_sink.url}}
                )
                assert answer.json()["output"] == {{"n": 1}}
                assert webhook_sink.wait(1)[0]["body"]["output"] == {{"n": 1}}
                emulator_clock.advance(86_400_000)
                gone = await client.get(endpoint.url + "/status/" + answer.json()["id"])
                assert gone.status_code == 404
        """
    run(source.format(plugin="anyio"), "-p", "anyio").assert_outcomes(passed=2)
    run(source.format(plugin="asyncio"), "-p", "asyncio").assert_outcomes(passed=1)


def test_an_emulator_that_serves_already_can_be_used(run):
    with Emulator().serve() as emulator:
        result = run(
            """
            import pytest

            def test_stub(endpoint, emulator_clock, webhook_sink):
                endpoint.when(input={"n": 1}).returns(2)
                endpoint.submit({"n": 1}, webhook=webhook_sink.url)
                assert webhook_sink.wait()[0]["body"]["output"] == 2

            @pytest.mark.emulator(handler=lambda job: 1)
            def test_function(endpoint):
                pass

            def test_matcher(endpoint):
                endpoint.when(lambda given: True).returns(1)
            """,
            f"--emulator-url={emulator.url}",
        )
        result.assert_outcomes(passed=1, failed=1, errors=1)
        text = result.stdout.str()
        assert "the handler is a function, which cannot be sent to the emulator at http" in text
        assert "a matcher is a function, which cannot be sent" in text
        assert [each["id"] for each in emulator.control("GET", "/endpoints")["endpoints"]] == ["local"]


def test_an_emulator_that_is_not_there(run):
    result = run("def test_it(endpoint): pass", "--emulator-url=http://127.0.0.1:9")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*--emulator-url http://127.0.0.1:9: nobody listens at 127.0.0.1:9 (*"])


WRONG_MARKERS = {
    "worker_max=1": "@pytest.mark.emulator knows no 'worker_max': did you mean workers_max?",
    "'handler.py'": "@pytest.mark.emulator takes names only: write handler='handler.py'",
    "clock='fast'": "clock is 'fast': it must be real, frozen, auto or scaled:N",
    "handler='nothing.py'": "nothing.py: no such file",
    "handler='no_module:handler'": "no_module",
    "workers_max=-1": "workers_max is -1: it must be from 0 to 1000",
    "faults=['no-capactiy']": "there is no preset 'no-capactiy'",
    "faults=[{'then': {'statsu': 1}}]": "did you mean status?",
    "workers_min=5": "workers_min is 5, above workers_max 3",
}


def test_wrong_markers_are_explained(run):
    tests = [
        f"@pytest.mark.emulator({marker})\ndef test_it_{n}(endpoint): pass"
        for n, marker in enumerate(WRONG_MARKERS)
    ]
    result = run("import pytest\n" + "\n".join(tests))
    result.assert_outcomes(errors=len(WRONG_MARKERS))
    _, *told = re.split(r"_+ ERROR at setup of test_it_\d+ _+", result.stdout.str())
    for text, (marker, problem) in zip(told, WRONG_MARKERS.items(), strict=True):
        assert problem in text.partition("short test summary")[0], marker


def test_the_fixtures_are_listed_with_what_they_are_for(run):
    text = run("", "--fixtures").stdout.str()
    for name in ("emulator ", "endpoint", "make_endpoint", "runpod_env", "emulator_clock", "webhook_sink"):
        assert re.search(rf"^{name}.*pytest_plugin\.py", text, re.MULTILINE), name


def test_a_run_that_does_not_use_it_does_not_start_it(run):
    result = run(
        """
        import sys, threading

        def test_nothing_is_loaded():
            assert not {"fastapi", "httpx", "uvicorn", "emulator.emulator"} & set(sys.modules)
            assert not [each for each in threading.enumerate() if each.name == "runpod-emulator"]
        """
    )
    result.assert_outcomes(passed=1)


def test_a_stub_without_an_outcome_fails_its_test(pytester, run):
    result = run(
        """
        def test_it(endpoint):
            endpoint.when(input={"n": 1})
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.re_match_lines_random([r"endpoint\.when\(input=\{'n': 1\}\) does not say what becomes .*"])


def test_a_test_starts_from_a_state(run, pytester):
    job = {"kind": "job", "endpoint": "any", "id": "one", "request": {"input": 1}}
    job |= {"status": "COMPLETED", "output": 5}
    (pytester.path / "prepared.jsonl").write_text(json.dumps(job))
    result = run(
        """
        import pytest

        @pytest.mark.emulator(emulator_state="prepared.jsonl")
        def test_it_is_there(endpoint):
            assert endpoint.job("one").output == 5

        @pytest.mark.emulator(emulator_state="missing.jsonl")
        def test_it_is_missing(endpoint):
            pass
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*emulator_state: *missing.jsonl cannot be read*"])
