"""What is never shown: the rows S13 to S15 of docs/security.md (attack.md 11, 13)."""

import json
import logging
import re

import pytest

from emulator.cli.log_format import LogFormat, configure_logging
from emulator.cli.terminal_text import one_entry, printable
from tests.api.client import served
from tests.cli.command import run, serving

pytestmark = pytest.mark.anyio

ACCESS, SECRET, USER, QUERY, TOKEN = "AKIAPLANTED", "s3planted", "userplanted", "queryplanted", "tokenplanted"
PLANTED = (ACCESS, SECRET, USER, QUERY, TOKEN)
S3 = {"accessId": ACCESS, "accessSecret": SECRET, "bucketName": "b", "endpointUrl": "http://127.0.0.1:1"}
WEBHOOK = f"http://{USER}:{USER}@127.0.0.1:1/hook?token={QUERY}"
JOB = {"input": {"a": 1, "s3Config": S3}, "s3Config": S3, "webhook": WEBHOOK}
WHOLE = json.dumps(JOB)
ESCAPED = WHOLE.replace("accessId", r"\u0061ccessId").replace("accessSecret", r"access\u0053ecret")
PADDED = {"pad": "x" * 70_000}
BODIES = {
    "valid": WHOLE,
    "trailing comma": WHOLE[:-1] + ",}",
    "escaped keys": ESCAPED,
    "escaped and broken": ESCAPED[:-1],
    "cut": json.dumps({**PADDED, **JOB}),
    "cut and escaped": ESCAPED[:-1] + ', "pad": "' + "x" * 70_000 + '"}',
    "escaped slashes": json.dumps({"input": 1, "webhook": WEBHOOK}).replace("/", r"\/")[:-1],
    "a bad webhook": json.dumps({"input": 1, "webhook": WEBHOOK.replace("http:", "ftp:")}),
}
HEADERS = {
    "x-auth-token": TOKEN, "api-key": TOKEN, "x-api-key": TOKEN, "cookie": f"session={TOKEN}",
    "x-amz-security-token": TOKEN, "proxy-authorization": TOKEN, "x-my-secret": TOKEN,
}  # fmt: skip


async def everything_shown(client):
    """All that can be read of what has happened."""
    paths = ["/journal", "/journal?format=jsonl", "/journal?format=har", "/jobs", "/webhooks", "/workers"]
    for job in (await client.http.get("/_emulator/jobs")).json()["jobs"]:
        paths += [f"/jobs/{job['id']}", f"/jobs/{job['id']}/timeline"]
    answers = [await client.http.get(f"/_emulator{path}") for path in paths]
    return "\n".join(answer.text for answer in answers)


@pytest.mark.parametrize("kind", BODIES)
async def test_s13_secrets_of_a_job_are_shown_nowhere(kind, caplog):
    caplog.set_level("DEBUG", "emulator")
    async with served(lambda job: 1) as client:
        query = f"?api_key={TOKEN}&signature={TOKEN}"
        answer = await client.post(f"/run{query}", content=BODIES[kind], headers=HEADERS)
        await client.clock.advance(30_000)
        shown = await everything_shown(client)
        assert "/run" in shown
        # What is said to the sender itself may be logged by it.
        for place in (shown, caplog.text, answer.text):
            assert [secret for secret in PLANTED if secret in place] == []


async def test_s13_a_key_is_shown_nowhere(caplog):
    caplog.set_level("DEBUG", "emulator")
    async with served(lambda job: 1, options={"api_keys": ["rightplanted"]}) as client:
        for key in ("rightplanted", "wrongplanted"):
            await client.post("/run", json={"input": 1}, headers={"authorization": f"Bearer {key}"})
        client.http.headers["authorization"] = "rightplanted"
        assert "planted" not in await everything_shown(client)
        assert "planted" not in caplog.text


def test_s14_a_key_that_a_worker_prints_is_masked(tmp_path):
    (tmp_path / "handler.py").write_text(
        "import os, runpod\n"
        "def handler(job):\n"
        "    print('my environment', os.environ['RUNPOD_AI_API_KEY'])\n"
        "    return 1\n"
        "runpod.serverless.start({'handler': handler})\n"
    )
    with serving(tmp_path, "handler.py", "--api-key", "rightplanted", "--worker-kind", "process") as emulator:
        job = emulator.ask("POST", "/v2/local/runsync?wait=300000", key="rightplanted", json={"input": 1})
        lines = emulator.request("GET", f"/_emulator/jobs/{job['id']}/logs", key="rightplanted").text
        assert "my environment" in lines
        assert "rightplanted" not in lines
        assert "rightplanted" not in emulator.log


FORGED = "x\n22:00:00.000 ERROR   forged\x1b[31m\x9b31m\r\u2028\u202e"


async def test_s15_a_path_cannot_write_a_line(capsys):
    loggers = [logging.getLogger("emulator"), logging.getLogger("uvicorn")]
    before = [(each, each.handlers[:], each.propagate, each.level) for each in loggers]
    configure_logging(LogFormat.TEXT, "debug")
    try:
        async with served() as client:
            forged = "x%0A22:00:00.000%20ERROR%20forged%1b%5b31m%c2%9b%0d"
            await client.http.get(f"/v2/ep/status/{forged}", headers={"authorization": ""})
            await client.http.get("/v2/ep/job-take/y%0A22:00:00.000%20ERROR%20forged%1b%5b2J")
        log = capsys.readouterr().err
    finally:
        for each, each.handlers, each.propagate, level in before:
            each.setLevel(level)
    assert "forged" in log
    assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", log) == []
    assert [line for line in log.splitlines() if line.startswith("22:00:00.000 ERROR")] == []


def test_s15_what_a_terminal_obeys_is_shown():
    assert printable("plain\ttext\n") == "plain\ttext\n"
    assert printable("\x1b[32mgreen\x1b[0m") == "green"
    shown = one_entry(FORGED)
    assert shown == "x\n    22:00:00.000 ERROR   forged\\x9b31m\\x0d\\u2028\\u202e"


def test_s15_a_job_cannot_drive_the_terminal_of_a_command(tmp_path):
    with serving(tmp_path) as emulator:
        evil = "\u009b2J\u202eevil"
        done = run(tmp_path, "submit", json.dumps({"mock_return": evil}), "--wait", "--url", emulator.url)
        assert "evil" in done.stdout
        assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", done.stdout + done.stderr) == []
