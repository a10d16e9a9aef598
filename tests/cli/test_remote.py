"""The commands that talk to a running emulator, as they are typed."""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from emulator import Emulator, EndpointConfig
from tests.cli.command import environment, run
from tests.limits import PATIENCE_S


@pytest.fixture(scope="module")
def served():
    with Emulator({"first": None, "slow": EndpointConfig(workers_max=0)}).serve() as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _afresh(served):
    served.reset()


@pytest.fixture
def tell(served, tmp_path):
    """Run a command; gives its exit code, output and errors."""

    def run_command(*arguments, **variables):
        done = run(tmp_path, *arguments, EMULATOR_URL=served.url, **variables)
        return done.returncode, done.stdout.rstrip("\n"), done.stderr.rstrip("\n")

    return run_command


def test_a_job_is_submitted_and_seen_through(tell):
    assert tell("submit", '{"mock_return": {"text": "ho"}}', "--wait") == (0, '{"text": "ho"}', "")


def test_a_failed_job_has_an_exit_code_and_says_why(tell):
    code, out, err = tell("submit", '{"mock_error": "no such model"}', "--wait")
    assert (code, out) == (1, "")
    assert err.startswith("FAILED: Traceback")
    assert "RuntimeError: no such model" in err


def test_a_job_that_takes_too_long(tell):
    code, _, err = tell("submit", '{"n": 1}', "--endpoint", "slow", "--wait", "--timeout", "0.1")
    assert code == 4
    assert "is IN_QUEUE after 0.1 s" in err


def test_a_job_from_submission_to_retry(tell, served, tmp_path):
    (tmp_path / "input.json").write_text('{"mock_error": "no"}')
    code, job_id, _ = tell("submit", "@input.json", "--policy", '{"ttl": 60000}')
    assert code == 0
    served.endpoint("first").wait(job_id)
    code, out, _ = tell("status", job_id)
    assert code == 1
    assert out.startswith(f"FAILED  {job_id}\n")
    assert "IN_QUEUE → IN_PROGRESS" in out
    assert tell("retry", job_id)[0] == 0
    served.endpoint("first").wait(job_id)
    code, out, _ = tell("jobs", "--status", "FAILED")
    assert out.splitlines()[0].split() == [
        "job",
        "endpoint",
        "status",
        "delay",
        "execution",
        "output",
        "or",
        "error",
    ]
    assert job_id in out
    assert "RuntimeError: no" in out


def test_json_everywhere(tell):
    _, out, _ = tell("submit", '{"n": 1}', "--endpoint", "slow", "--json")
    job_id = json.loads(out)["id"]
    assert json.loads(tell("status", job_id, "--json")[1])["input"] == {"n": 1}
    assert json.loads(tell("jobs", "--json")[1])["jobs"][0]["id"] == job_id
    assert json.loads(tell("cancel", job_id, "--json")[1]) == {"id": job_id, "status": "CANCELLED"}
    assert json.loads(tell("clock", "show", "--json")[1])["mode"] == "real"
    assert json.loads(tell("faults", "ls", "--json")[1]) == {"faults": []}
    assert json.loads(tell("reset", "--json")[1])["reset"]["slow"]["jobs"] == 1


def test_time_is_moved(tell):
    assert tell("clock", "freeze")[1].startswith("frozen, ")
    _, job_id, _ = tell("submit", '{"n": 1}', "--endpoint", "slow", "--policy", '{"ttl": 86400000}')
    assert tell("clock", "advance", "23h")[0] == 0
    code, out, _ = tell("clock", "until", job_id, "TIMED_OUT")
    assert code == 0
    assert f"fired ttl  {job_id}" in out
    assert tell("status", job_id)[0] == 4
    assert tell("clock", "mode", "scaled:2")[1].startswith("scaled:2, ")
    assert "next  ttl" not in tell("clock", "advance", "next")[1]


def test_faults_are_ordered_and_lifted(tell, served):
    assert tell("faults", "add", '{"id": "f1", "then": {"status": 503}}')[1] == "f1"
    assert served.endpoint("first").client.get("health").status_code == 503
    assert "f1" in tell("faults", "ls")[1]
    assert tell("faults", "clear", "f1")[1] == "1 lifted"
    assert tell("faults", "preset", "api-outage", "--endpoint", "slow")[1] == "api-outage@slow"
    assert tell("faults", "clear")[1] == "1 lifted"


def test_the_variables_for_the_shell(tell, served):
    assert tell("env")[1].splitlines() == [
        f"export RUNPOD_ENDPOINT_BASE_URL={served.url}/v2",
        "export RUNPOD_API_KEY=local",
        f"export EMULATOR_URL={served.url}",
    ]


def test_the_logs_of_a_job(tmp_path):
    (tmp_path / "h.py").write_text("def handler(job):\n    print('from the handler')\n    return 1\n")
    config = EndpointConfig(handler=str(tmp_path / "h.py") + ":handler", worker_kind="process")
    with Emulator({"ep": config}).serve() as emulator:
        job = emulator.endpoint("ep").submit({"n": 1})
        done = run(tmp_path, "logs", "-f", job.id, EMULATOR_URL=emulator.url)
        assert (done.returncode, done.stdout) == (0, "from the handler\n")


def test_the_logs_of_a_job_whose_inline_worker_has_gone_say_where_lines_are(tmp_path):
    with Emulator({"ep": lambda job: 1}).serve() as emulator:
        job = emulator.endpoint("ep").submit({"n": 1}).wait()
        emulator.control("PATCH", "/endpoints/ep", {"workers_max": 0})
        done = run(tmp_path, "logs", job.id, EMULATOR_URL=emulator.url)
        assert (done.returncode, done.stdout) == (0, "")
        assert "an inline worker prints where the emulator runs" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["submit", "{"], 2, "error: the argument is not JSON"),
        (["submit", "@nothing.json"], 2, "error: nothing.json: No such file"),
        (["submit", "{}", "--endpoint", "nope"], 1, "endpoint not found: 'nope'"),
        (["status", "nope"], 1, "there is no job 'nope'"),
        (["clock", "advance", "fast"], 2, "'fast' is not a duration"),
        (["clock", "mode", "fast"], 2, "clock is 'fast'"),
        (["clock", "advance", "-5s"], 2, "'-5s' is not a duration: write 500ms, 2s, 10m or 1h; time moves"),
        (["jobs", "--status", "lost"], 2, "status"),
        (["submit", "1", "--timeout", "abc"], 2, "'abc' is not a duration"),
        (["doctor", "--port", "99999"], 2, "--port is 99999: it must be from 1 to 65535"),
        (["faults", "add", '{"then": {"statsu": 1}}'], 2, "did you mean status?"),
        (["faults", "clear", "nope"], 1, "there is no fault 'nope'"),
    ],
)
def test_what_goes_wrong_is_one_sentence(tell, arguments, code, problem):
    got, out, err = tell(*arguments)
    assert (got, out) == (code, "")
    assert problem in err
    assert "Traceback" not in err


def test_no_emulator_answers(tmp_path):
    done = run(tmp_path, "jobs", "--url", "http://127.0.0.1:9")
    assert done.returncode == 3
    assert done.stderr.startswith(
        "error: nobody listens at 127.0.0.1:9 (in a container, localhost is the container): start one with"
    )


# exec


def test_a_command_has_an_emulator_for_as_long_as_it_runs(tmp_path):
    (tmp_path / "h.py").write_text("def handler(job):\n    return job['input']['n'] + 1\n")
    script = (
        "import os, sys, urllib.request, json\n"
        "url = os.environ['RUNPOD_ENDPOINT_BASE_URL'] + '/local/runsync'\n"
        "headers = {'authorization': os.environ['RUNPOD_API_KEY']}\n"
        'call = urllib.request.Request(url, b\'{"input": {"n": 1}}\', headers)\n'
        "print(json.load(urllib.request.urlopen(call))['output'], os.environ['EMULATOR_URL'])\n"
        "sys.exit(7)\n"
    )
    done = run(tmp_path, "exec", "--handler", "h.py:handler", "--", sys.executable, "-c", script)
    assert done.returncode == 7, done.stderr
    answer, url = done.stdout.split()
    assert answer == "2"
    assert run(tmp_path, "jobs", "--url", url).returncode == 3


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["--", "no-such-command"], 127, "no-such-command: there is no such command"),
        (["--handler", "nothing.py", "--", "true"], 2, "nothing.py: no such file"),
        (["--clock", "fast", "--", "true"], 2, "clock is 'fast'"),
        ([], 2, "Missing argument"),
    ],
)
def test_exec_that_cannot_run(tmp_path, arguments, code, problem):
    done = run(tmp_path, "exec", *arguments)
    assert done.returncode == code
    assert problem in done.stderr


def test_exec_hands_on_signals_and_leaves_nothing(tmp_path):
    script = "import os, time; print(os.environ['EMULATOR_URL'], flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-m", "emulator", "exec", "--", sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert run(tmp_path, "jobs", "--url", url).returncode == 3


def test_exec_that_is_ended_while_it_starts_leaves_nothing(tmp_path):
    for name in ("loading", "loaded"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "h.py").write_text(
        "import os\nopen('loading', 'w').write(str(os.getpid()))\nopen('loaded').read()\n"
    )
    command = ["exec", "--handler", "h.py:handler", "--worker-kind", "inline", "--", "true"]
    with subprocess.Popen(
        [sys.executable, "-m", "emulator", *command], cwd=tmp_path, env=environment()
    ) as process:
        emulator = int((tmp_path / "loading").read_text())
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(emulator, 0)


def test_doctor(tell, served, tmp_path):
    port = served.url.rpartition(":")[2]
    assert tell("doctor")[1] == tell("doctor", "--port", port)[1]
    code, out, _ = tell("doctor", "--port", port)
    assert code == 0
    assert f"an emulator serves at {served.url}: first, slow" in out
    assert "export RUNPOD_ENDPOINT_BASE_URL=" in out
    found = json.loads(tell("doctor", "--port", port, "--json", HTTP_PROXY="http://p", NO_PROXY="")[1])
    assert [each["name"] for each in found["findings"] if each["fine"] is None][:2] == ["base url", "proxy"]


# What a person sees


def test_status_shows_how_far_a_job_is_and_what_came_of_it(tell, served):
    endpoint = served.create_endpoint("shown", clock="frozen")
    endpoint.when(input={"n": 1}).returns({"text": "ho"}, progress=["9/20"], delay="8m")
    job = endpoint.submit({"n": 1})
    endpoint.clock.advance("7m")
    code, out, _ = tell("status", job.id)
    assert (code, out.splitlines()[-1]) == (0, "progress: [##########..............] 9/20")
    job.cancel()
    done = served.endpoint("first").submit({"mock_return": {"a": 1}}).wait()
    code, out, _ = tell("status", done.id[:8])
    assert out.splitlines()[-1] == 'output: {"a": 1}'
    assert out.splitlines()[-2].startswith("delay ")
    endpoint.remove()


def test_chunks_are_printed_as_they_come(tell, served):
    endpoint = served.create_endpoint("streams")
    endpoint.when().returns(chunks=["a", {"b": 1}])
    code, out, err = tell("submit", '{"n": 1}', "--stream", "--endpoint", "streams")
    assert (code, out, err) == (0, '"a"\n{"b": 1}', "")
    endpoint.remove()


def test_what_the_worker_writes_is_shown_while_its_job_is_waited_for(tmp_path):
    (tmp_path / "h.py").write_text("def handler(job):\n    print('from the handler')\n    return 1\n")
    config = EndpointConfig(handler=str(tmp_path / "h.py") + ":handler", worker_kind="process")
    with Emulator({"ep": config}).serve() as emulator:
        done = run(tmp_path, "submit", '{"n": 1}', "--wait", EMULATOR_URL=emulator.url)
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "│ from the handler\n")


def test_an_empty_input_is_told_of_at_once(tell):
    code, _, err = tell("submit", "{}")
    assert code == 0
    assert err.startswith("note: the input is {}: no worker ever receives such a job")


def test_retry_tells_what_the_endpoint_answers(tell, served):
    job = served.endpoint("first").submit({"mock_error": "no"}).wait()
    assert tell("retry", job.id) == (0, "IN_QUEUE", "")


def test_the_state_may_be_written_in_any_case(tell, served):
    job = served.endpoint("slow").submit({"n": 1})
    assert job.id in tell("jobs", "--status", "in_queue")[1]


def test_health_workers_and_purge(tell, served):
    served.endpoint("slow").submit({"n": 1})
    code, out, _ = tell("health", "--endpoint", "slow")
    assert (code, out.splitlines()[0]) == (0, "endpoint slow")
    assert "1 inQueue" in out.splitlines()[1]
    assert tell("purge", "--endpoint", "slow") == (0, "1 job removed", "")
    served.endpoint("first").submit({"mock_return": 1}).wait()
    assert tell("workers")[1].splitlines()[1].split()[1:4] == ["first", "inline", "idle"]


def test_addresses_as_people_write_them(served, tmp_path):
    bare = served.url.removeprefix("http://")
    for url in (bare, f"{served.url}/v2", f"{served.url}/v2/first", f"{served.url}/", f"{bare}/_emulator"):
        assert run(tmp_path, "health", "--url", url).returncode == 0
    assert run(tmp_path, "health", RUNPOD_ENDPOINT_BASE_URL=f"{served.url}/v2").returncode == 0


def test_another_server_is_told_as_that(tmp_path):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = run(tmp_path, "jobs", "--url", f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 3
    assert f"what answers at http://127.0.0.1:{server.server_port} is not an emulator: GET" in done.stderr


def test_keys(tmp_path):
    with Emulator({"ep": None}, api_keys=["right"]).serve() as emulator:

        def tell(*arguments, **variables):
            return run(tmp_path, *arguments, EMULATOR_URL=emulator.url, **variables)

        for given in (["--api-key", "right"], {"EMULATOR_API_KEY": "right"}, {"RUNPOD_API_KEY": "right"}):
            options, variables = (given, {}) if isinstance(given, list) else ([], given)
            assert tell("submit", '{"n": 1}', *options, **variables).returncode == 0
        refused = tell("submit", '{"n": 1}')
        assert refused.returncode == 1
        assert refused.stderr == (
            f"error: it takes certain keys alone at {emulator.url}:"
            " give one with --api-key, EMULATOR_API_KEY or RUNPOD_API_KEY\n"
        )
        assert "export RUNPOD_API_KEY=right" in tell("env", "--api-key", "right").stdout
        unknown = tell("env")
        assert "RUNPOD_API_KEY" not in unknown.stdout
        assert "none of them is known here" in unknown.stderr


# exec


@pytest.mark.parametrize(
    ("options", "variables"),
    [(["--api-key", "right"], {}), ([], {"EMULATOR_API_KEY": "right other"})],
    ids=["option", "variable"],
)
def test_a_command_gets_a_key_that_passes(tmp_path, options, variables):
    command = ["sh", "-c", "echo $RUNPOD_API_KEY; runpod-emulator health"]
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run(tmp_path, "exec", *options, "--workers-max", "7", "--", *command, **variables)
    assert done.stdout.splitlines()[:2] == ["right", "endpoint local"]
    assert done.returncode == 0


def test_arguments_for_a_handler_of_exec(tmp_path):
    (tmp_path / "h.py").write_text(
        "import runpod, sys\nrunpod.serverless.start({'handler': lambda job: sys.argv[1:]})\n"
    )
    done = run(
        tmp_path, "exec", "--handler", "h.py", "--worker-args", "--model 'a b'", "--",
        sys.executable, "-m", "emulator", "submit", '{"n": 1}', "--wait",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, '["--model", "a b"]\n')
