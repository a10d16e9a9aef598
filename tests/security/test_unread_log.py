"""Nobody waits for whoever reads the log (attack.md 14)."""

import re
import subprocess
import sys
import threading

import httpx

from tests.cli.command import environment, run
from tests.limits import PATIENCE_S


def test_a_log_that_nobody_reads_holds_nobody_up(tmp_path):
    """After 160 jobs nothing was answered any more, and SIGTERM had no effect."""
    with subprocess.Popen(
        [sys.executable, "-m", "emulator", "serve", "--port", "0", "--no-rate-limits"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        overdue = threading.Timer(PATIENCE_S, process.kill)
        overdue.start()
        try:
            url = ""
            while (line := process.stdout.readline()) != "Ready.\n":
                url = line.split()[1] if line.startswith("  url ") else url
            with httpx.Client(
                base_url=url, headers={"authorization": "x"}, trust_env=False, timeout=PATIENCE_S
            ) as http:
                for number in range(200):
                    body = {"input": {"mock_error": f"{number} {'x' * 1900}"}}
                    assert http.post("/v2/local/runsync", json=body).status_code == 200
            process.terminate()
            assert process.wait(PATIENCE_S) == 0
        finally:
            overdue.cancel()
            process.kill()
        log = process.stderr.read()
    # What did come is in order.
    numbers = [int(number) for number in re.findall(r"RuntimeError: (\d+) xx", log)]
    assert numbers == list(range(len(numbers)))
    assert numbers


def test_in_ordinary_use_nothing_of_it_is_lost(tmp_path):
    """The last lines before the end too, and those before an error of the command line."""
    ended = run(tmp_path, "serve", "no_such_file.py", EMULATOR_UNHEARD="1")
    assert ended.returncode == 2
    first, rest = ended.stderr.split("\n", 1)
    assert "EMULATOR_UNHEARD" in first
    assert rest.startswith("error: no_such_file.py")
