"""A worker that cannot start is told of wherever somebody looks: in the log, by the commands, over HTTP."""

import sys

import pytest

from tests.cli.command import run, serving

SENTENCE = (
    "no worker of 'local' starts: ModuleNotFoundError: No module named 'no_such_package':"
    f" {sys.executable} -m pip install no_such_package (or name the interpreter that has it with --python)"
)
NEEDS = "import no_such_package\ndef handler(job):\n    return 1\n"


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """An emulator whose workers do not start, and a job that waits."""
    folder = tmp_path_factory.mktemp("failing")
    (folder / "needs.py").write_text(NEEDS)
    with serving(
        folder, "needs.py:handler", "--scaler-type", "REQUEST_COUNT", "--scaler-value", "1"
    ) as served:
        assert served.get("/_emulator/ready") == {"ready": True}
        served.job_id = served.post("/v2/local/run", {"input": 1})["id"]
        while served.get("/_emulator/ready")["ready"]:
            assert served.process.poll() is None
        yield served


@pytest.fixture
def tell(failing, tmp_path):
    """Run a command; gives its exit code, output and errors."""

    def run_command(*arguments):
        done = run(tmp_path, *arguments, EMULATOR_URL=failing.url)
        return done.returncode, done.stdout.rstrip("\n"), done.stderr.rstrip("\n")

    return run_command


def test_it_is_not_ready(failing):
    answer = failing.request("GET", "/_emulator/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "reasons": [SENTENCE]})
    # It serves all the same.
    assert failing.get("/v2/local/health")["jobs"]["inQueue"] >= 1


def test_the_control_api_says_why(failing):
    job = failing.get(f"/_emulator/jobs/{failing.job_id}")
    assert (job["waiting_for"], job["waits_endlessly"]) == (SENTENCE, True)
    workers = failing.get("/_emulator/workers")
    assert workers["obstacles"] == {"local": SENTENCE}
    assert failing.get("/_emulator/endpoints/local")["obstacle"] == SENTENCE


def test_a_client_that_waits_is_told_at_once_and_waits_on(tell):
    code, out, err = tell("submit", '{"n": 1}', "--wait", "--timeout", "0.5")
    told, ended = err.splitlines()
    assert (code, out) == (4, "")
    assert told.endswith(f" waits: {SENTENCE}")
    assert ended.endswith(f" is IN_QUEUE after 0.5 s: {SENTENCE}")


def test_a_job_and_the_list_of_jobs_say_it(tell, failing):
    code, out, _ = tell("status", failing.job_id)
    assert (code, out.splitlines()[-1]) == (0, f"waiting: {SENTENCE}")
    _, out, _ = tell("jobs")
    assert "no worker of 'local' starts: ModuleNotFoundError" in out.splitlines()[1]
    assert out.splitlines()[-1] == f"waiting: {SENTENCE}"
    assert out.count("waiting: ") == 1


def test_the_doctor_finds_it(tell, failing):
    code, out, _ = tell("doctor", "--port", failing.url.rpartition(":")[2])
    assert code == 1
    assert f"BAD   workers   {SENTENCE}" in out.splitlines()


def test_the_log_says_it_once_however_often_it_is_tried(failing):
    def tries():
        return sum(worker["crashes"] for worker in failing.get("/_emulator/workers")["workers"])

    while tries() < 3:
        assert failing.process.poll() is None
    assert failing.logs("no worker of 'local' starts")
    assert failing.log.count("no worker of 'local' starts") == 1
    assert failing.log.count("Traceback") == 1
    assert "unhealthy" not in failing.log
    [worker, *_] = failing.get("/_emulator/workers")["workers"]
    lines = failing.get(f"/_emulator/workers/{worker['id']}/logs")["lines"]
    assert sum(line["text"].startswith("Traceback") for line in lines) >= 1


def test_the_log_has_every_try_for_those_who_want_it(folder):
    (folder / "needs.py").write_text(NEEDS)
    with serving(folder, "needs.py:handler", "--log-level", "debug") as served:
        served.post("/v2/local/run", {"input": 1})
        while served.log.count("│ Traceback") < 2:
            assert served.process.poll() is None
        assert served.logs("initializing → unhealthy: restarting in 1000 ms: ModuleNotFoundError")
