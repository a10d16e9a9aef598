"""Settings by option, variable and file, and what is said about wrong ones."""

import socket
import sys

import pytest

from tests.cli.command import run, serving

ALWAYS_UP = "process, 1 to 2, REQUEST_COUNT 7 jobs a worker, idle timeout 90 s"
IN_EACH_WAY = {
    "option": (
        [
            "--workers-min=1",
            "--workers-max=2",
            "--idle-timeout=1.5m",
            "--scaler-type=REQUEST_COUNT",
            "--scaler-value=7",
            "--api-key=one",
            "--api-key=two",
            "--clock=frozen",
            "--cold-start=2s",
            "--no-rate-limits",
            "--execution-timeout=8000",
            "echo.py:handler",
        ],
        {},
        None,
    ),
    "variable": (
        [],
        {
            "EMULATOR_WORKERS_MIN": "1",
            "EMULATOR_WORKERS_MAX": "2",
            "EMULATOR_IDLE_TIMEOUT": "90",
            "EMULATOR_SCALER_TYPE": "REQUEST_COUNT",
            "EMULATOR_SCALER_VALUE": "7",
            "EMULATOR_API_KEY": "one two",
            "EMULATOR_CLOCK": "frozen",
            "EMULATOR_COLD_START": "2000",
            "EMULATOR_RATE_LIMITS": "off",
            "EMULATOR_EXECUTION_TIMEOUT": "8s",
            "EMULATOR_HANDLER": "echo.py:handler",
        },
        None,
    ),
    "file": (
        [],
        {},
        """
        workers-min = 1
        workers_max = 2
        idle-timeout = "90s"
        scaler-type = "REQUEST_COUNT"
        scaler_value = 7
        api-key = ["one", "two"]
        clock = "frozen"
        cold-start = 2000
        rate-limits = false
        execution_timeout = "8s"
        handler = "echo.py:handler"
        """,
    ),
}


@pytest.mark.parametrize("way", IN_EACH_WAY)
def test_every_setting_can_be_given_in_three_ways(folder, way):
    arguments, variables, file = IN_EACH_WAY[way]
    if file is not None:
        (folder / "emulator.toml").write_text(file)
    with serving(folder, *arguments, **variables) as served:
        assert served.rows("handler") == [f"echo.py:handler (function, {sys.executable})"]
        assert served.rows("workers") == [ALWAYS_UP]
        assert served.rows("clock") == ["frozen"]
        assert "  export RUNPOD_API_KEY=one-of-your-keys" in served.banner
        keys = [
            served.request("GET", "/v2/local/health", key=key).status_code for key in ("one", "two", "x", "")
        ]
        assert keys == [200, 200, 401, 401]
        fired = served.ask("POST", "/_emulator/clock/advance", key="one", json={"by_ms": 2_000})["fired"]
        assert [timer["kind"] for timer in fired] == ["cold start"]
        purged = [served.request("POST", "/v2/local/purge-queue", key="one").status_code for _ in range(3)]
        assert purged == [200, 200, 200]
        assert served.ask("POST", "/runsync", key="one", json={"input": 5})["output"] == 5


def test_an_option_beats_a_variable_and_a_variable_beats_the_file(folder):
    (folder / "emulator.toml").write_text(
        'workers-max = 4\nscaler-value = 14\nidle-timeout = "24s"\nclock = "frozen"\nport = 1\n'
    )
    variables = {"EMULATOR_SCALER_VALUE": "15", "EMULATOR_IDLE_TIMEOUT": "25s", "EMULATOR_PORT": "0"}
    with serving(folder, "--idle-timeout", "26s", **variables) as served:
        assert served.rows("workers") == ["inline, 0 to 4, QUEUE_DELAY 15 s, idle timeout 26 s"]
        assert served.rows("clock") == ["frozen"]


def test_endpoints_come_from_options_and_tables(folder):
    (folder / "other.toml").write_text(
        """
        workers-max = 5
        worker-kind = "inline"
        [endpoints.text]
        handler = "script.py"
        workers-max = 1
        scaler_type = "REQUEST_COUNT"
        scaler-value = 2
        missing-input = "accept"
        idle-timeout = "1m"
        [endpoints.images]
        cold-start = "1s"
        """
    )
    arguments = [
        "echo.py:handler",
        "--config",
        "other.toml",
        "--endpoint",
        "first",
        "--endpoint",
        "text=nothing.py",
    ]
    with serving(folder, *arguments, "--clock", "scaled:1000") as served:
        assert [row.split()[0] for row in served.rows("endpoint")] == ["first", "text", "images"]
        assert served.rows("handler") == [
            "echo.py:handler (sync)",
            "script.py (sync)",
            "echo.py:handler (sync)",
        ]
        assert served.rows("workers") == [
            "inline, 0 to 5, QUEUE_DELAY 4 s, idle timeout 5 s",
            "inline, 0 to 1, REQUEST_COUNT 2 jobs a worker, idle timeout 60 s",
            "inline, 0 to 5, QUEUE_DELAY 4 s, idle timeout 5 s",
        ]
        assert served.rows("clock") == ["scaled:1000"]
        assert served.post("/v2/text/runsync", {"input": 1})["output"]["script"] == 1
        assert served.post("/v2/images/runsync", {"input": 2})["delayTime"] >= 1_000
        assert served.post("/runsync", {"input": 3})["output"] == 3
        assert served.request("POST", "/v2/text/run", json={}).status_code == 200
        assert served.request("POST", "/v2/images/run", json={}).status_code == 400


def test_a_setting_that_may_be_repeated_may_stand_alone_in_the_file(folder):
    (folder / "emulator.toml").write_text('endpoint = "images=script.py"\napi-key = "one"\n')
    with serving(folder) as served:
        assert served.rows("endpoint") == [f"images  {served.url}/v2/images"]
        assert served.request("GET", "/v2/images/health", key="one").status_code == 200
        assert served.request("GET", "/v2/images/health", key="o").status_code == 401


def test_without_auth_and_with_fewer_requests(folder):
    with serving(folder, "--no-auth", "--rate-limit-scale", "0.5", "--clock", "frozen") as served:
        purged = [served.request("POST", "/v2/local/purge-queue", key="") for _ in range(2)]
        assert [answer.status_code for answer in purged] == [200, 429]
        assert purged[1].headers["retry-after"] == "10"


def test_a_variable_that_sets_nothing_is_warned_about(folder):
    with serving(folder, EMULATOR_WORKER_MAX="2", EMULATOR_SOMETHING_ELSE="1") as served:
        first, second = [line.partition("WARNING ")[2] for line in served.log.splitlines() if "sets" in line]
        assert first == "the variable EMULATOR_SOMETHING_ELSE sets nothing"
        assert second == ("the variable EMULATOR_WORKER_MAX sets nothing: did you mean EMULATOR_WORKERS_MAX?")


# What a user gets wrong


def refused(folder, *arguments, **variables):
    """The one sentence that says why it did not start."""
    ended = run(folder, "serve", *arguments, **variables)
    assert ended.returncode != 0
    assert "Ready." not in ended.stdout
    assert "Traceback" not in ended.stderr
    return ended


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing.py"], "nothing.py: no such file (looked in "),
        (["echo.py"], "echo.py never calls runpod.serverless.start({'handler': …}): add the call, or name"),
        (["echo.py:other"], "echo.py:other: there is no other in it; it defines: handler"),
        (
            ["nothing:handler"],
            "nothing:handler: there is no module 'nothing' (looked in ",
        ),
        (
            ["nothing:handler", "--worker-kind", "process"],
            "nothing:handler: there is no module 'nothing' (looked in ",
        ),
        (
            ["echo"],
            "echo: name a file (handler.py), file and function (handler.py:handler) or module:function",
        ),
        (["--clock", "fast"], "clock is 'fast': it must be real, frozen, auto or scaled:N"),
        (["--clock", "scaled:0"], "clock is 'scaled:0': it must be real, frozen, auto or scaled:N"),
        (["--clock", "scaled:inf"], "clock is 'scaled:inf': it must be real, frozen, auto or scaled:N"),
        (["--clock", "scaled:nan"], "clock is 'scaled:nan': it must be real, frozen, auto or scaled:N"),
        (["--idle-timeout", "soon"], "'soon' is not a duration: write 500ms, 2s, 10m or 1h"),
        (["--cold-start", "-1s"], "'-1s' is not a duration"),
        (
            ["--execution-timeout", "4s"],
            "--execution-timeout is 4000 ms: it must be at least 5000 and at most",
        ),
        (["--workers-min", "4"], "--workers-min is 4, above --workers-max 3: raise --workers-max"),
        (["--workers-max", "-1"], "--workers-max is -1: it must be from 0 to 1000"),
        (["--scaler-value", "0"], "--scaler-value is 0: it must be"),
        (["--rate-limit-scale", "0"], "--rate-limit-scale is 0.0: it must be above 0"),
        (
            ["--python", "no-such-python"],
            "python is 'no-such-python': there is no such interpreter",
        ),
        (["--endpoint", "a/b"], "'a/b' cannot be an endpoint id: use letters, digits and -_."),
        (["--host", "no.such.host.invalid", "--insecure"], "cannot listen on 'no.such.host.invalid'"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_sentence(folder, arguments, sentence):
    ended = refused(folder, "--port", "0", *arguments)
    [first] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert first.startswith(f"error: {sentence}")
    assert ended.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], ["'--port' (env var: 'EMULATOR_PORT'): ", "65535"]),
        (["--port", "http"], ["'--port' (env var: 'EMULATOR_PORT'): ", " valid integer"]),
        (["--workers-min", "two"], ["'--workers-min' (env var: 'EMULATOR_WORKERS_MIN'): ", " valid integer"]),
        (["--scaler-type", "RANDOM"], ["'--scaler-type'", "RANDOM"]),
        (["--log-format", "xml"], ["'--log-format'", "xml"]),
        (["--worker-max", "2"], ["No such option", "--worker-max"]),
        (["--config", "nothing.toml"], ["cannot read nothing.toml: No such file or directory"]),
    ],
)
def test_a_wrong_option_is_named(folder, arguments, words):
    """The sentences are typer's, which change with its version."""
    ended = refused(folder, *arguments)
    assert ended.returncode == 2
    told = " ".join(ended.stderr.replace("│", " ").split())
    assert [each for each in words if each not in told] == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("worker-max = 2", "emulator.toml has an unknown key 'worker-max': did you mean workers-max?"),
        ("qqq = 2", "emulator.toml has an unknown key 'qqq'"),
        ("port = ", "emulator.toml is not valid TOML: "),
        ("endpoints = 3", "emulator.toml: endpoints must be tables like [endpoints.my-endpoint]"),
        (
            "[endpoints.a]\nworkerz-max = 1",
            "[endpoints.a] has an unknown key 'workerz-max': did you mean workers-max?",
        ),
        ("[endpoints.a]\nworkers-max = 'x'", "[endpoints.a] workers-max is 'x': it must be a whole number"),
        ("[endpoints.a]\nworkers-max = 2.7", "[endpoints.a] workers-max is 2.7: it must be a whole number"),
        ("[endpoints.a]\nworkers-min = true", "[endpoints.a] workers-min is True: it must be a whole number"),
        ("[endpoints.a]\nidle-timeout = 'x'", "[endpoints.a] idle-timeout is 'x': 'x' is not a duration"),
        ("[endpoints.a]\nscaler-type = 'x'", "--scaler-type is 'x': it must be QUEUE_DELAY or REQUEST_COUNT"),
        ("[endpoints.a]\nworkers-min = 9", "--workers-min is 9, above --workers-max 3"),
        ("[endpoints]\na = 3", "[endpoints.a] must be a table of settings"),
    ],
)
def test_a_wrong_file_stops_the_start_with_one_sentence(folder, content, sentence):
    (folder / "emulator.toml").write_text(content)
    ended = refused(folder, "--port", "0")
    assert sentence in " ".join(ended.stderr.replace("│", " ").split())


def test_a_handler_that_does_not_load_is_shown_where_it_fails(folder):
    (folder / "broken.py").write_text("def handler(job):\n    return (\n")
    ended = run(folder, "serve", "--port", "0", "broken.py")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: broken.py failed to load:")
    assert "broken.py" in ended.stderr
    assert "SyntaxError: '(' was never closed" in ended.stderr
    assert "line 2" in ended.stderr
    (folder / "broken.py").write_text("import os\n\nos.environ['NO_SUCH_VARIABLE']\n")
    ended = run(folder, "serve", "--port", "0", "broken.py", "--worker-kind", "inline")
    assert "line 3" in ended.stderr
    assert "KeyError: 'NO_SUCH_VARIABLE'" in ended.stderr
    assert "loading.py" not in ended.stderr


def test_a_port_in_use_is_named(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = refused(folder, "--port", str(port))
        assert ended.stderr == (
            f"error: port {port} is in use: stop what uses it, or choose another with --port (0 takes any)\n"
        )
