"""Any command as process workers: what production starts, in the folder in which it starts it."""

import os
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.command import ONE_WORKER, run, serving
from tests.cli.test_process_workers import bare_python, save
from tests.processes import is_alive

__all__ = ["bare_python"]

#: A worker by hand (wire.md 7): it says who it is, and does what it is told.
WORKER = """\
import json, os, sys, urllib.request

me = os.environ["RUNPOD_POD_ID"]

def call(variable, job_id="", body=None):
    url = os.environ[variable].replace("$RUNPOD_POD_ID", me).replace("$ID", job_id or me)
    request = urllib.request.Request(url, body, {"Authorization": os.environ["RUNPOD_AI_API_KEY"]})
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)

while True:
    with call("RUNPOD_WEBHOOK_GET_JOB") as answer:
        job = json.loads(answer.read() or "{}")
    if job:
        output = {
            "argv": sys.argv, "python": sys.executable, "cwd": os.getcwd(), "pwd": os.environ["PWD"],
            "id": os.getpid(), "parent": os.getppid(), "file": open("answer.yaml").read(),
        }
        call("RUNPOD_WEBHOOK_POST_OUTPUT", job["id"], json.dumps({"output": output}).encode()).close()
"""

NODE = """\
const { RUNPOD_WEBHOOK_GET_JOB, RUNPOD_WEBHOOK_POST_OUTPUT, RUNPOD_POD_ID, RUNPOD_AI_API_KEY } = process.env;
const headers = { Authorization: RUNPOD_AI_API_KEY };
for (;;) {
  const taken = await fetch(RUNPOD_WEBHOOK_GET_JOB.replace("$ID", RUNPOD_POD_ID), { headers });
  if (taken.status !== 200) continue;
  const job = await taken.json();
  const url = RUNPOD_WEBHOOK_POST_OUTPUT.replace("$RUNPOD_POD_ID", RUNPOD_POD_ID).replace("$ID", job.id);
  await fetch(url, { method: "POST", headers, body: JSON.stringify({ output: `node: ${job.input}` }) });
}
"""

PACKAGE = """\
import runpod
from .model import answer

async def handler(job):
    return answer(job["input"])

if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda now: 3})
"""


def executable(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path):
    """A project whose workers are started by `worker.py`, by `start.sh` or as the module `app.handler`."""
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "answer.yaml").write_text("first")
    executable(tmp_path / "start.sh", '#!/bin/sh\nexec python worker.py "$@"\n')
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "model.py").write_text("def answer(x):\n    return x * 2\n")
    (tmp_path / "app" / "handler.py").write_text(PACKAGE)
    return tmp_path


def answer(served, endpoint="local", given=1):
    return served.post(f"/v2/{endpoint}/runsync", {"input": given})["output"]


@pytest.mark.parametrize("arguments", [["--command", "python -m app.handler"], ["app.handler"]])
def test_a_module_of_a_package_runs_with_the_real_sdk(project, arguments):
    with serving(project, *arguments) as served:
        assert served.rows("handler") == [f"python -m app.handler (command, {sys.executable})"]
        assert served.rows("workers")[0].startswith("process, ")
        ids = [served.post("/v2/local/run", {"input": n})["id"] for n in range(3)]
        ended = [served.get(f"/v2/local/status-sync/{job_id}") for job_id in ids]
        assert [body["output"] for body in ended] == [0, 2, 4]
        # The script's own config counts: one worker has taken all three.
        assert len({body["workerId"] for body in ended}) == 1


def test_a_shell_script_gets_words_and_arguments_as_they_are(project):
    command = "./start.sh 'two words' $HOME"
    with serving(project, "--command", command, "--", "--model", "a b", PATH="/usr/bin:/bin") as served:
        output = answer(served)
        assert output["argv"] == ["worker.py", "two words", "$HOME", "--model", "a b"]
        # Though it is not on the emulator's own PATH.
        assert output["python"] == sys.executable
        assert (output["cwd"], output["pwd"]) == (str(project), str(project))


def test_python_in_a_command_and_in_a_script_is_the_one_that_was_chosen(project, bare_python):
    with serving(project, "--command", "./start.sh", "--python", str(bare_python)) as served:
        assert answer(served)["python"] == str(bare_python)
    with serving(project, "--command", "python3 worker.py", "--python", str(bare_python)) as served:
        assert answer(served)["python"] == str(bare_python)


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_a_worker_in_another_language(project):
    (project / "worker.mjs").write_text(NODE)
    with serving(project, "--command", "node worker.mjs") as served:
        assert answer(served, given="hi") == "node: hi"


WAYS = {
    "variable": ([], {"EMULATOR_COMMAND": "./start.sh 'a b'", "EMULATOR_WORKDIR": "the place"}, ""),
    "file": ([], {}, 'command = "./start.sh \'a b\'"\nworkdir = "the place"'),
    "list": ([], {}, 'command = ["./start.sh", "a b"]\nworkdir = "the place"'),
    "table": ([], {}, '[endpoints.local]\ncommand = ["./start.sh", "a b"]\nworkdir = "the place"'),
    "over-file": (["--command", "./start.sh 'a b'", "--workdir", "the place"], {}, 'handler = "nothing.py"'),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_can_be_given_in_every_way(project, tmp_path_factory, way):
    arguments, variables, file = WAYS[way]
    start = tmp_path_factory.mktemp("start")
    shutil.copytree(project, start / "the place")
    if file:
        (start / "emulator.toml").write_text(file)
    with serving(start, *arguments, **variables) as served:
        output = answer(served)
        assert output["argv"] == ["worker.py", "a b"]
        assert output["cwd"] == str(start / "the place")
        told = [*served.rows("workdir"), *served.rows("handler")]
        assert any(str(start / "the place") in row for row in told), served.banner


def test_endpoints_have_commands_of_their_own(project):
    (project / "emulator.toml").write_text(
        'command = "./start.sh all"\n'
        '[endpoints.one]\ncommand = "python worker.py own"\n'
        '[endpoints.two]\n[endpoints.three]\nhandler = "echo.py:handler"\n'
        '[endpoints.four]\nworkdir = "below"\ncommand = "python ../worker.py"\n'
    )
    (project / "echo.py").write_text("def handler(job):\n    return job['input']\n")
    (project / "below").mkdir()
    (project / "below" / "answer.yaml").write_text("below")
    with serving(project) as served:
        assert answer(served, "one")["argv"][1:] == ["own"]
        assert answer(served, "two")["argv"][1:] == ["all"]
        assert answer(served, "three") == 1
        below = answer(served, "four")
        assert below["file"] == "below"
        assert below["cwd"] == below["pwd"] == str(project / "below")


def test_what_a_command_has_started_ends_with_it(project):
    executable(project / "start.sh", "#!/bin/sh\npython worker.py\n")
    with serving(project, "--command", "./start.sh", *ONE_WORKER) as served:
        first = answer(served)
        [worker] = served.get("/_emulator/workers")["workers"]
        assert worker["process_id"] == first["parent"]
        os.kill(first["parent"], signal.SIGKILL)
        # Until it is noticed, what the command had started goes on taking jobs.
        assert served.logs("SIGKILL")
        second = answer(served)
        assert second["id"] != first["id"]
        assert not is_alive(first["id"])
        assert served.stop() == 0
        assert not is_alive(second["id"])
        assert not is_alive(second["parent"])


def test_every_source_file_of_its_folder_is_taken_up_when_it_is_saved(project):
    def file_until(wanted):
        while (output := answer(served)["file"]) != wanted:
            assert served.process.poll() is None
        return output

    (project / "node_modules").mkdir()
    with serving(project, "--command", "./start.sh", "--reload", "--no-rate-limits") as served:
        first = answer(served)
        # Until its watch is set up, a save is not seen: it is repeated.
        while "answer.yaml changed" not in served.log:
            save(project / "answer.yaml", "second")
            assert answer(served)["file"] in ("first", "second")
        while (output := answer(served))["id"] == first["id"]:
            assert served.process.poll() is None
        assert output["file"] == "second"
        save(project / "node_modules" / "theirs.js", "")
        save(project / "notes.txt", "")
        save(project / "start.sh", "#!/bin/sh\nexec python worker.py new\n")
        while "start.sh changed and was not taken up" not in served.log:
            assert answer(served)["argv"] == ["worker.py"]
        assert served.logs("start.sh is not executable: chmod +x ./start.sh")
        executable(project / "start.sh", "#!/bin/sh\nexec python worker.py new\n")
        while answer(served)["argv"] != ["worker.py", "new"]:
            assert served.process.poll() is None
        assert "theirs.js" not in served.log
        assert "notes.txt" not in served.log


def test_one_that_ends_by_itself_is_explained(project):
    executable(project / "start.sh", "#!/bin/sh\necho done\n")
    with serving(project, "--command", "./start.sh") as served:
        assert "never asked for a job: a command must stay" in reason_of_a_failed_start(served)


def reason_of_a_failed_start(served) -> str:
    served.post("/v2/local/run", {"input": 1})
    return " ".join(worker["reason"] for worker in served.unhealthy_workers())


@pytest.mark.parametrize(
    ("handler", "what_to_do"),
    [
        (["app/handler.py"], '--command "python -m app.handler", or name its function: app.handler:handler'),
        (["app/handler.py:own"], '--command "python -m app.handler", or name its function: app.handler:own'),
        (["--command", "python app/handler.py"], '--command "python -m app.handler"'),
        (["--workdir", "app", "handler.py"], '--workdir {} --command "python -m app.handler"'),
    ],
)  # fmt: skip
def test_a_file_that_needs_its_package_is_told_how_to_run(project, handler, what_to_do):
    with (project / "app" / "handler.py").open("a") as file:
        file.write("own = handler\n")
    with serving(project, *handler) as served:
        assert what_to_do.format(project) in reason_of_a_failed_start(served)


def test_the_same_inline_and_by_invoke(project):
    ended = run(project, "serve", "app/handler.py", "--worker-kind", "inline", "--port", "0")
    assert ended.returncode == 2
    assert '--command "python -m app.handler"' in ended.stderr
    ended = run(project, "invoke", "app/handler.py", "-i", "1")
    assert ended.returncode == 2
    assert '--command "python -m app.handler"' in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["app.none"], "by --command 'python -m app.none', its function is app.none:handler"),
        (["start.sh"], "any other program is run by --command ./start.sh"),
        (["bin/plain.sh"], "any other program is run by --command 'sh bin/plain.sh'"),
        (["worker.mjs"], "any other program is run by --command 'node worker.mjs'"),
        (["python -u worker.py"], "any other program is run by --command 'python -u worker.py'"),
        (["worker.py", "--command", "./start.sh"], "a handler (worker.py) and a command (./start.sh)"),
        (["--command", "./start.sh", "--worker-kind", "inline"], "'inline', it must be 'process'"),
        (["--command", "./start.sh", "--worker-kind", "external"], "'external', it must be 'process'"),
        (["--command", ""], "the command '' names no program"),
        (["--command", "sh 'x"], "cannot be split into words: No closing quotation"),
        (["--command", "start.sh"], "no program 'start.sh' on the PATH of the workers: write ./start.sh"),
        (["--command", "no-such-program x"], "no shell runs a command; what needs one is written sh -c '…'"),
        (["--command", "./none.sh"], "there is no program {}/none.sh"),
        (["--command", "./app"], "there is no program {}/app"),
        (["--command", "./worker.py"], "is not executable: chmod +x ./worker.py, or run it by python ./w"),
        (["--command", "./bare.sh"], "does not say what runs it: begin it with a line like #!/bin/sh"),
        (["--command", "./windows.sh"], "has the line ends of Windows: save it with those of Unix"),
        (["--command", "./lost.sh"], "lost.sh is to be run by '/no/such/shell -e', which is not there"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_stops_the_start_with_one_sentence(project, arguments, sentence):
    executable(project / "bare.sh", "echo hi\n")
    executable(project / "windows.sh", "#!/bin/sh\r\necho hi\r\n")
    executable(project / "lost.sh", "#!/no/such/shell -e\n")
    ended = run(project, "serve", "--port", "0", *arguments)
    assert ended.returncode == 2
    assert sentence.format(project) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_invoke_test_and_exec_take_it_too(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "input.json").write_text("21")
    options = ["--command", "python -m app.handler", "--workdir", str(project)]
    ended = run(elsewhere, "invoke", *options, "--input", "@input.json")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "42\n", "")
    ended = run(project, "invoke", "app.handler", "--input", "21")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "42\n", "")
    (elsewhere / "tests.json").write_text('[{"input": 4, "expected_output": 8}]')
    ended = run(elsewhere, "test", *options, "--junit", "report.xml")
    assert ended.returncode == 0, ended.stderr
    assert (elsewhere / "report.xml").is_file()
    ask = (
        "import os, urllib.request as u; print(os.getcwd());"
        "print(u.build_opener(u.ProxyHandler({})).open(u.Request("
        "os.environ['RUNPOD_ENDPOINT_BASE_URL'] + '/local/runsync', b'{\"input\": 3}',"
        "{'Authorization': 'x', 'Content-Type': 'application/json'})).read().decode())"
    )
    ended = run(elsewhere, "exec", *options, "--", sys.executable, "-c", ask)
    assert ended.returncode == 0, ended.stderr
    # What exec runs stays where it is.
    assert ended.stdout.startswith(f"{elsewhere}\n")
    assert '"output":6' in ended.stdout


def test_invoke_needs_a_handler_or_a_command(project):
    ended = run(project, "invoke", "-i", "1")
    assert ended.returncode == 2
    assert (
        ended.stderr
        == "error: there is nothing to run: name a handler (handler.py), or give a --command or an --image\n"
    )
    ended = run(project, "invoke", "-i", "1", "worker.py", "--command", shlex.join(["sh", "start.sh"]))
    assert ended.returncode == 2
    assert "give one of them" in ended.stderr
