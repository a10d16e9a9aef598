"""Where a handler runs: where the emulator is started, or in the folder that is set, as in production."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.cli.command import environment, run, serving

#: What a script finds of where and how it is run.
FACTS = """\
import json, os, sys

facts = {"argv": sys.argv[0], "file": __file__, "first": sys.path[0], "cwd": os.getcwd(), "name": __name__}
"""
SCRIPT = f"""\
{FACTS}
if os.environ.get("TELL"):
    print(json.dumps(facts))
    sys.exit()

import runpod
import utils

def handler(job):
    return {{**facts, "prompt": open("prompts/base.txt").read(), "own": utils.X}}

if __name__ == "__main__":
    runpod.serverless.start({{"handler": handler}})
"""
KINDS = ["process", "inline"]


def a_project(root, place="src/handler.py"):
    """A script that reads a file of the folder it is run in, and imports a neighbour."""
    script = root / place
    for file, content in (
        (root / "prompts" / "base.txt", "the base prompt"),
        (script, SCRIPT),
        (script.parent / "utils.py", "X = 3\n"),
        (root / "rooted.py", "Y = 4\n"),
        (script.parent / "functions.py", f"{FACTS}import rooted, utils\ndef run(job):\n"
         "    return {**facts, 'prompt': open('prompts/base.txt').read(), 'own': [utils.X, rooted.Y]}\n"),
    ):  # fmt: skip
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def as_python_runs_it(folder, script):
    """What Python itself says of a script."""
    told = subprocess.run(
        [sys.executable, "-u", script],
        cwd=folder, env=environment(TELL="1"), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(told.stdout)


def output_of(served, endpoint="local"):
    body = served.post(f"/v2/{endpoint}/runsync", {"input": 1})
    assert body["status"] == "COMPLETED", body
    return body["output"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "place", ["src/handler.py", "my src/the handler.py", "../beside/handler.py", "link.py"]
)
def test_a_script_runs_as_python_would_run_it(tmp_path, place, kind):
    folder = tmp_path / "a folder"
    a_project(folder, "src/handler.py" if place == "link.py" else place)
    (folder / "link.py").symlink_to("src/handler.py")
    with serving(folder, place, "--worker-kind", kind) as served:
        assert output_of(served) == {
            **as_python_runs_it(folder, place),
            "prompt": "the base prompt",
            "own": 3,
        }


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_finds_its_neighbours_first_and_then_what_is_in_the_folder(tmp_path, kind):
    a_project(tmp_path)
    (tmp_path / "utils.py").write_text("X = 'not this one'\n")
    with serving(tmp_path, "src/functions.py:run", "--worker-kind", kind) as served:
        output = output_of(served)
        assert (output["own"], output["prompt"]) == ([3, 4], "the base prompt")
        assert (output["cwd"], output["argv"]) == (str(tmp_path), "src/functions.py:run")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handler", ["src/handler.py", "src/functions.py:run", "src.fn:run"])
def test_a_working_folder_moves_all_of_it(tmp_path, kind, handler):
    a_project(tmp_path / "the app")
    (tmp_path / "the app" / "src" / "fn.py").write_text(
        "import os\ndef run(job):\n"
        "    return {'prompt': open('prompts/base.txt').read(), 'cwd': os.getcwd()}\n"
    )
    (tmp_path / "link").symlink_to("the app")
    with serving(tmp_path, handler, "--workdir", "link", "--worker-kind", kind) as served:
        output = output_of(served)
        assert (output["prompt"], output["cwd"]) == ("the base prompt", str(tmp_path / "the app"))
        assert served.rows("workdir") == [str(tmp_path / "the app")]


def test_the_file_says_where_its_endpoints_run(tmp_path):
    for name in ("one", "two"):
        a_project(tmp_path / "conf" / name)
        (tmp_path / "conf" / name / "prompts" / "base.txt").write_text(name)
    (tmp_path / "conf" / "my.toml").write_text(
        "[endpoints.one]\nworkdir = 'one'\nhandler = 'src/functions.py:run'\n"
        "[endpoints.two]\nworkdir = 'two'\nhandler = 'src/functions.py:run'\n"
        "[endpoints.plain]\nhandler = 'plain.py:run'\n"
    )
    (tmp_path / "conf" / "plain.py").write_text("import os\ndef run(job):\n    return os.getcwd()\n")
    with serving(tmp_path, "--config", "conf/my.toml") as served:
        assert [output_of(served, name)["prompt"] for name in ("one", "two")] == ["one", "two"]
        # Its path starts where the file is; it runs where the emulator was started.
        assert output_of(served, "plain") == str(tmp_path)
        described = [each["handler"] for each in served.get("/_emulator/endpoints")["endpoints"]]
        assert described[0].endswith(f" in {tmp_path}/conf/one")
        assert described[2] == f"conf/plain.py:run (function, {sys.executable})"


def test_what_a_worker_adds_to_its_path_is_known_before_it_starts(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mylib.py").write_text(
        "import runpod\ndef main():\n    runpod.serverless.start({'handler': lambda job: 'from lib'})\n"
    )
    (tmp_path / "main.py").write_text("import mylib\nmylib.main()\n")
    assert "never calls runpod.serverless.start" in run(tmp_path, "serve", "main.py", "--port", "0").stderr
    with serving(tmp_path, "main.py", EMULATOR_WORKER_ENV_PYTHONPATH="lib") as served:
        assert output_of(served) == "from lib"


def test_a_folder_that_vanishes_is_named_and_taken_up_when_it_is_back(tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    (tmp_path / "fn.py").write_text("import os\ndef run(job):\n    os._exit(3) if job['input'] else 0\n")
    (tmp_path / "emulator.toml").write_text("[endpoints.local]\nworkdir = 'app'\nhandler = '../fn.py:run'\n")
    with serving(tmp_path) as served:
        assert served.post("/v2/local/runsync", {"input": 0})["status"] == "COMPLETED"
        app.rmdir()
        job = served.post("/v2/local/run", {"input": 1})["id"]
        while f"its working folder {app} is gone" not in served.log:
            assert served.process.poll() is None
        app.mkdir()
        assert served.get(f"/v2/local/status-sync/{job}")["status"] == "FAILED"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["src/handler.py", "--workdir", "none"], "workdir is 'none': there is no folder {}/none"),
        (["src/handler.py", "--workdir", "rooted.py"], "workdir is 'rooted.py': it is a file, not a folder"),
        (["src/handler.py", "--workdir", "src"], "src/handler.py: no such file (looked in {}/src); paths"
         " start at the working folder: write handler.py"),
        (["src/handler.py", "--workdir", "src", "--worker-kind", "inline"], "write handler.py"),
        (["--config", "own.toml"], "workdir is '{}/src', and inline workers run in the emulator's own"
         " folder, {}: use --worker-kind 'process', or start the emulator there"),
        (["--config", "none.toml"], "workdir is '{}/none': there is no folder {}/none"),
    ],
)  # fmt: skip
def test_a_wrong_folder_stops_the_start_with_one_sentence(tmp_path, arguments, sentence):
    a_project(tmp_path)
    (tmp_path / "own.toml").write_text(
        "[endpoints.a]\nworkdir = 'src'\nhandler = 'handler.py'\nworker-kind = 'inline'\n"
    )
    (tmp_path / "none.toml").write_text("[endpoints.a]\nworkdir = 'none'\nhandler = 'handler.py'\n")
    ended = run(tmp_path, "serve", "--port", "0", *arguments)
    assert ended.returncode == 2
    assert sentence.replace("{}", str(tmp_path)) in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_invoke_runs_it_there_too(tmp_path, kind):
    a_project(tmp_path / "app")
    (tmp_path / "app" / "test_input.json").write_text('{"input": {"from": "the working folder"}}')
    (tmp_path / "app" / "src" / "echo.py").write_text(
        "import os\ndef run(job):\n    return [job['input'], os.getcwd()]\n"
    )
    options = ["--workdir", "app", "--worker-kind", kind]
    ended = run(tmp_path, "invoke", "src/handler.py", *options)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["prompt"] == "the base prompt"
    ended = run(tmp_path, "invoke", "src/echo.py:run", *options)
    assert json.loads(ended.stdout) == [{"from": "the working folder"}, str(tmp_path / "app")]


def test_the_hubs_tests_run_in_the_folder_they_are_started_in(tmp_path):
    a_project(tmp_path)
    (tmp_path / "tests.json").write_text('[{"input": 1}]')
    assert run(tmp_path, "test").returncode == 0
    shutil.move(tmp_path / "prompts", tmp_path / "src")
    assert run(tmp_path, "test").returncode == 1
    assert run(tmp_path, "test", "--workdir", "src").returncode == 0


def test_endpoints_are_added_over_http_with_a_folder_or_a_command(tmp_path):
    a_project(tmp_path / "app")
    with serving(tmp_path, "--allow-code-over-http") as served:
        fields = {"worker_kind": "process", "workdir": "app"}
        assert "error" not in served.ask(
            "PUT", "/_emulator/endpoints/fn", json={**fields, "handler": "src/functions.py:run"}
        )
        assert output_of(served, "fn")["cwd"] == str(tmp_path / "app")
        made = served.ask(
            "PUT", "/_emulator/endpoints/c", json={**fields, "command": "python src/handler.py"}
        )
        assert made["handler"] == f"python src/handler.py (command, {sys.executable}) in {tmp_path}/app"
        assert output_of(served, "c")["prompt"] == "the base prompt"
        refused = served.request("PUT", "/_emulator/endpoints/d", json={"command": ["python"]})
        assert refused.status_code == 400
        assert "worker_kind is 'inline', it must be 'process'" in refused.text
        refused = served.request("PUT", "/_emulator/endpoints/d", json={**fields, "handler": "none.py"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "handler_error")
