"""`runpod-emulator serve`, from its banner to its end."""

import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import emulator
from emulator import __version__
from emulator.cli.log_format import PARTS
from tests.cli.command import environment, run, serving
from tests.limits import PATIENCE_S

ROOM = Path(emulator.__file__).parent


def test_the_banner_says_what_is_served_and_how_to_reach_it(folder):
    with serving(folder, "script.py", "--endpoint", "images", "--endpoint", "text=echo.py:handler") as served:
        assert served.banner[1] == f"runpod-emulator {__version__}"
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", served.url)
        assert served.rows("endpoint") == [
            f"images  {served.url}/v2/images",
            f"text  {served.url}/v2/text",
        ]
        assert served.rows("handler") == [
            f"script.py (script, {sys.executable})",
            f"echo.py:handler (function, {sys.executable})",
        ]
        assert served.rows("workers") == ["process, 0 to 3, QUEUE_DELAY 4 s, idle timeout 5 s"] * 2
        assert served.rows("clock") == ["real"]
        assert served.rows("docs") == [f"{served.url}/_emulator/docs"]
        assert f"  export RUNPOD_ENDPOINT_BASE_URL={served.url}/v2" in served.banner
        assert "  export RUNPOD_API_KEY=anything" in served.banner
        assert any(f'baseUrl: "{served.url}/v2"' in line for line in served.banner)
        assert served.banner[-1] == "Ready."

        images = served.post("/v2/images/runsync", {"input": 1})
        assert images["output"] == {"script": 1, "file": "script.py"}
        assert served.post("/v2/text/runsync", {"input": 2})["output"] == 2
        assert served.post("/runsync", {"input": 3})["output"]["script"] == 3


def test_without_a_handler_the_mock_worker_obeys_its_input(folder):
    with serving(folder, "--clock", "frozen") as served:
        assert served.rows("handler") == ["the built-in mock worker (async)"]

        def ended(job_id):
            return served.get(f"/v2/local/status-sync/{job_id}")

        def run_job(**keys):
            return served.post("/v2/local/run", {"input": keys or {"prompt": "hi"}})["id"]

        def advance(seconds):
            return served.post("/_emulator/clock/advance", {"by_ms": seconds * 1000})

        assert ended(run_job())["output"] == "Hello World!"
        assert ended(run_job(mock_return={"a": 1}))["output"] == {"a": 1}
        assert json.loads(ended(run_job(mock_error="no GPU"))["error"])["error_message"] == "no GPU"
        assert json.loads(ended(run_job(mock_error=True))["error"])["error_message"] == "Mock error"
        assert ended(run_job(mock_refresh=True, mock_return=1))["output"] == {"mock_return": 1}

        slow = run_job(mock_delay=30, mock_progress=["first", "second"], mock_logs=["one line", "another"])
        advance(15)
        halfway = served.get(f"/v2/local/status/{slow}")
        assert (halfway["status"], halfway["output"]) == ("IN_PROGRESS", "second")
        advance(15)
        assert ended(slow)["executionTime"] == 30_000
        assert served.logs(f"job {slow}: one line")
        assert served.logs(f"job {slow}: another")

        crashing = run_job(mock_crash=True)
        advance(5)
        assert ended(crashing)["error"] == "job timed out after 1 retries"


def test_requests_and_jobs_are_logged_for_a_person(folder):
    with serving(folder, "echo.py:handler") as served:
        job_id = served.post("/v2/local/runsync", {"input": 1})["id"]
        # What is logged is written behind the answer, all of it by the end.
        served.stop()
        log = served.log
        assert re.search(rf"^\d\d:\d\d:\d\d\.\d{{3}} INFO    local job {job_id} IN_QUEUE$", log, re.MULTILINE)
        assert re.search(rf"local job {job_id} IN_QUEUE → IN_PROGRESS worker=\w{{14}} delay=\d+ ms", log)
        assert re.search(rf"local job {job_id} IN_PROGRESS → COMPLETED worker=\w{{14}} execution=\d+ ms", log)
        assert "POST /v2/local/runsync → 200" in log
        assert "\x1b" not in log


def test_log_lines_for_a_program_are_json(folder):
    with serving(folder, "--log-format", "json", "--clock", "frozen", EMULATOR_TYPO="1") as served:
        job_id = served.post("/v2/local/runsync", {"input": {"mock_error": "no"}})["id"]
        served.post("/v2/local/run", {"input": {}})
        served.stop()
        lines = [json.loads(line) for line in served.log.splitlines()]
    assert all({"ts", "level", "message"} <= line.keys() for line in lines)
    moves = [line for line in lines if line.get("job_id") == job_id]
    assert [(move.get("from"), move["to"]) for move in moves] == [
        (None, "IN_QUEUE"),
        ("IN_QUEUE", "IN_PROGRESS"),
        ("IN_PROGRESS", "FAILED"),
    ]
    assert {move["event"] for move in moves} == {"job"}
    assert moves[-1]["endpoint"] == "local"
    assert re.fullmatch(r"\w{14}", moves[-1]["worker_id"])
    assert (moves[-1]["delay_ms"], moves[-1]["execution_ms"]) == (0, 0)
    assert "execution_ms" not in moves[0]
    assert "error_message" in moves[-1]["error"]
    assert {"initializing", "idle"} <= {line.get("to") for line in lines if line.get("event") == "worker"}
    warnings = [line for line in lines if line["level"] == "warning"]
    assert any("EMULATOR_TYPO" in line["message"] for line in warnings)
    assert any(line.get("event") == "notice" and "the input is {}" in line["message"] for line in warnings)


def test_the_log_level_leaves_out_what_is_below(folder):
    with serving(folder, "--log-level", "warning") as served:
        served.post("/v2/local/runsync", {"input": 1})
        assert served.log == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_and_well_when_told_to(folder, number):
    with serving(folder, "--clock", "frozen", "--workers-min", "1") as served:
        waiting = served.post("/v2/local/run", {"input": {"mock_delay": 3_600}})
        assert waiting["status"] == "IN_QUEUE"
        assert served.stop(number) == 0
        assert served.logs("stopping")
        assert "Traceback" not in served.log


def test_it_ends_in_spite_of_a_handler_that_does_not(folder):
    (folder / "stubborn.py").write_text(
        "import asyncio\n"
        "async def handler(job):\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.Event().wait()\n"
        "        except asyncio.CancelledError:\n"
        "            pass\n"
    )
    with serving(folder, "stubborn.py:handler", "--worker-kind", "inline") as served:
        job_id = served.post("/v2/local/run", {"input": 1})["id"]
        while served.get(f"/v2/local/status/{job_id}")["status"] == "IN_QUEUE":
            assert served.process.poll() is None
        assert served.stop() == 0
        assert served.logs("1 handlers did not stop and were left behind")


def test_what_a_handler_prints_is_seen(folder):
    (folder / "printing.py").write_text(
        "import sys\n"
        "def handler(job):\n"
        "    print('seen by the user', file=sys.stderr, flush=True)\n"
        "    return 1\n"
    )
    with serving(folder, "printing.py:handler") as served:
        served.post("/v2/local/runsync", {"input": 1})
        assert served.logs("seen by the user")


# healthcheck and version


def test_healthcheck_tells_whether_it_serves(folder):
    with serving(folder) as served:
        port = served.url.rpartition(":")[2]
        for host in ("127.0.0.1", "0.0.0.0", "localhost", ""):
            well = run(folder, "healthcheck", EMULATOR_PORT=port, EMULATOR_HOST=host)
            assert (well.returncode, well.stdout) == (0, "healthy\n")
        served.stop()
        ill = run(folder, "healthcheck", EMULATOR_PORT=port)
        assert ill.returncode == 1
        assert ill.stderr.startswith(f"unhealthy: nothing serves at 127.0.0.1 port {port}: ")
        assert ill.stderr.count("\n") == 1


def test_healthcheck_of_a_port_that_is_no_number(folder):
    ill = run(folder, "healthcheck", EMULATOR_PORT="http")
    assert ill.returncode == 1
    assert "Traceback" not in ill.stderr


def test_healthcheck_imports_nothing_heavy(folder):
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "emulator", "healthcheck"],
        cwd=folder,
        env=environment(EMULATOR_PORT="1"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    ).stderr
    assert "emulator.serving.healthcheck" in imported
    for heavy in ("fastapi", "starlette", "pydantic", "uvicorn", "typer", "httpx", "asyncio"):
        assert not re.search(rf"\| +{heavy}\b", imported), heavy


def test_a_command_that_only_asks_imports_no_server(folder):
    """And no models: what is ordered is checked where it is taken."""
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "emulator", "status", "x", "--url", "http://127.0.0.1:1"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    ).stderr
    assert "emulator.cli.job_commands" in imported
    assert "no emulator answers" in imported or "nobody listens" in imported.lower()
    for heavy in ("fastapi", "starlette", "uvicorn"):
        assert not re.search(rf"\| +{heavy}\b", imported), heavy


def test_serving_never_imports_the_runpod_sdk(folder):
    (folder / "modules.py").write_text(
        "import sys, runpod\n"
        "def handler(job):\n"
        "    return [name for name in sys.modules if name.startswith(('runpod', 'boto', 'aiohttp'))]\n"
        "runpod.serverless.start({'handler': handler})\n"
    )
    with serving(folder, "modules.py", "--worker-kind", "inline") as served:
        assert served.post("/v2/local/runsync", {"input": 1})["output"] == []


def test_version(folder):
    assert run(folder, "version").stdout == run(folder, "--version").stdout == f"{__version__}\n"


def test_s3_prints_a_config_to_paste_and_ends_with_the_emulator(folder):
    with serving(folder, "--s3") as emulator:
        line = next(line for line in emulator.banner if '"s3Config": ' in line)
        config = json.loads(line.partition('"s3Config": ')[2])
        assert set(config) == {"accessId", "accessSecret", "bucketName", "endpointUrl"}
        found = emulator.get("/_emulator/s3")
        assert (found["endpoint_url"], found["bucket"]) == (config["endpointUrl"], config["bucketName"])
        assert config["accessSecret"] not in emulator.log
        address = urlsplit(config["endpointUrl"])
        with socket.create_connection((address.hostname, address.port), PATIENCE_S) as connection:
            # It can clean up nothing.
            emulator.process.kill()
            emulator.process.wait()
            # Reset, where the store had not accepted it yet.
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""


def test_a_handler_that_sets_up_logging_anew_does_not_silence_the_log(tmp_path):
    """`dictConfig` disables all loggers that there are, unless it is told not to."""
    handler = """
import logging.config

def handler(job):
    logging.config.dictConfig({"version": 1})
    return 1
"""
    (tmp_path / "h.py").write_text(handler)
    with serving(tmp_path, "h.py:handler", "--worker-kind", "inline") as served:
        for _ in range(2):
            ended = served.post("/v2/local/runsync", {"input": "x"})
        served.stop()
        assert served.log.count(f"job {ended['id']} ") == 3
        assert served.log.count("POST /v2/local/runsync → 200") == 2
        assert "stopping" in served.log


def test_every_logger_of_the_emulators_is_one_that_no_handler_silences():
    names = re.findall(
        r'getLogger\("(emulator[.a-z]*)"\)', "".join(path.read_text() for path in ROOM.rglob("*.py"))
    )
    assert {name.partition(".")[2] for name in names} - {""} == set(PARTS)
