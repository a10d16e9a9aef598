"""The same handlers behind every kind of worker.

`script@1.7.13` is a script with that SDK; without a version it is the newest, which is installed here.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from anyio.from_thread import start_blocking_portal

from emulator import Emulator, EndpointConfig
from emulator.core.container import ContainerSettings
from emulator.core.placement import Placement
from tests.limits import PATIENCE_S
from tests.long import sdks

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
#: Of examples/worker, with the SDK in it; `make test-docker` builds it.
WORKER_IMAGE = "runpod-emulator-example-worker"
KEY = {"authorization": "x"}

_ALL_FORMS = "handlers_of_all_forms"
#: Per endpoint the module and function it runs, and what a script gives to `start` beside it.
FORMS = {
    "sync": (_ALL_FORMS, "sync", ""),
    "async": (_ALL_FORMS, "asynchronous", ""),
    "generator": (_ALL_FORMS, "generator", ""),
    "async-generator": (_ALL_FORMS, "async_generator", ""),
    "aggregate": (_ALL_FORMS, "async_generator", "'return_aggregate_stream': True"),
    "several": (_ALL_FORMS, "several", "'concurrency_modifier': lambda now: 8"),
    "refresh": (_ALL_FORMS, "sync", "'refresh_worker': True"),
    "progress": ("handler_with_progress", "handler", ""),
}
SCRIPT = """\
import runpod
import {module}
if __name__ == "__main__":
    runpod.serverless.start({{"handler": {module}.{function}, {options}}})
"""


class Workers:
    """An emulator whose endpoints, one for each form, have one worker of one kind."""

    def __init__(self, kind: str, url: str, http: httpx.Client, folder: Path, ended: ExitStack) -> None:
        self.kind, _, sdk = kind.partition("@")
        #: The SDK's version, such as (1, 7, 13); of what is installed here it is enough that it is newer.
        self.sdk = tuple(map(int, re.findall(r"\d+", sdk)[:3])) if sdk else (99,)
        self.url = url
        self.http = http
        self._folder = folder
        self._ended = ended
        self._started: set[str] = set()

    def run(self, form: str, input: object, **fields: object) -> str:
        """Submit a job; returns its id."""
        self._have_worker(form)
        return self._ask("POST", f"/v2/{form}/run", json={"input": input, **fields})["id"]

    def ended(self, form: str, job_id: str) -> dict[str, Any]:
        """The job, once it has ended."""
        return self._ask("GET", f"/v2/{form}/status-sync/{job_id}")

    def runsync(self, form: str, input: object, **fields: object) -> dict[str, Any]:
        return self.ended(form, self.run(form, input, **fields))

    def status(self, form: str, job_id: str) -> dict[str, Any]:
        return self._ask("GET", f"/v2/{form}/status/{job_id}")

    def in_progress(self, form: str, job_id: str) -> dict[str, Any]:
        """The job, once a worker has it."""
        while (body := self.status(form, job_id))["status"] == "IN_QUEUE":
            pass
        return body

    def cancel(self, form: str, job_id: str) -> str:
        return self._ask("POST", f"/v2/{form}/cancel/{job_id}")["status"]

    def chunks(self, form: str, job_id: str) -> list[Any]:
        """All that /stream gives, to the end."""
        chunks: list[Any] = []
        while True:
            body = self._ask("GET", f"/v2/{form}/stream/{job_id}")
            chunks += [item["output"] for item in body["stream"]]
            if body["status"] not in ("IN_QUEUE", "IN_PROGRESS"):
                return chunks

    def timeline(self, job_id: str) -> str:
        """What has happened to a job, and what the emulator has to say about it."""
        return "\n".join(self._ask("GET", f"/_emulator/jobs/{job_id}/timeline")["lines"])

    def health(self, form: str) -> dict[str, Any]:
        return self._ask("GET", f"/v2/{form}/health")

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        answer = self.http.request(method, path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _have_worker(self, form: str) -> None:
        """An external worker is started by whoever wants one."""
        if self.kind == "external" and form not in self._started:
            self._started.add(form)
            script = self._folder / f"{form}.py"
            self._ended.enter_context(external_worker(self.url, form, script, f"test-{form}"))


def what_runs(kind: str, folder: Path, place: str) -> dict[str, Any]:
    """The settings by which workers of a kind run a script or a function in a folder."""
    if kind == "docker":
        # The same folders in the container, for the files by which handlers and tests tell one another.
        return {
            "image": WORKER_IMAGE,
            "command": ("python", "-u", f"{folder}/{place}"),
            "container": ContainerSettings(volumes=(f"{folder.parent}:{folder.parent}",), user="0"),
        }
    if kind == "ray":
        # One worker for each form, on however few CPUs.
        placed = {"worker_kind": "ray", "placement": Placement(num_cpus=0)}
        return {"handler": f"{folder}/{place}", **placed}
    return {
        "handler": f"{folder}/{place}",
        "worker_kind": {"function": "process", "script": "process"}.get(kind, kind),
    }


@contextmanager
def workers_of(named: str, folder: Path, forms: dict[str, tuple[str, str, str]] = FORMS) -> Iterator[Workers]:
    """Serve every form by workers of a kind: inline, function, script, script@…, docker, ray, external."""
    kind, _, sdk = named.partition("@")
    python = sdks.interpreter(sdk) if sdk else None
    for form, (module, function, options) in forms.items():
        shutil.copy(HERE / f"{module}.py", folder)
        text = SCRIPT.format(module=module, function=function, options=options)
        (folder / f"{form}.py").write_text(text)
    endpoints = {
        form: EndpointConfig(
            **what_runs(kind, folder, f"{module}.py:{function}" if kind == "function" else f"{form}.py"),
            workers_max=1,
            # An SDK that polls without a pause while it has nothing to do takes a core from the others.
            idle_timeout_s=5 if sdk in sdks.BUSY_WHEN_IDLE else 600,
            python=python,
        )
        for form, (module, function, _) in forms.items()
    }
    emulator = Emulator(endpoints, rate_limits=False)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(emulator),
        portal.wrap_async_context_manager(emulator.serve()) as url,
        httpx.Client(base_url=url, headers=KEY, trust_env=False, timeout=PATIENCE_S) as http,
        ExitStack() as ended,
    ):
        yield Workers(named, url, http, folder, ended)


@contextmanager
def external_worker(url: str, endpoint_id: str, script: Path, worker_id: str) -> Iterator[int]:
    """A script with the real SDK, started by nobody the emulator knows (wire.md 7); gives its process id."""
    base = f"{url}/v2/{endpoint_id}"
    variables = {
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=none",
        "RUNPOD_PING_INTERVAL": "1000",
        "RUNPOD_AI_API_KEY": "x",
        "RUNPOD_ENDPOINT_ID": endpoint_id,
        "RUNPOD_POD_ID": worker_id,
        "RUNPOD_POD_HOSTNAME": worker_id,
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RUNPOD_")}
    with subprocess.Popen(
        [sys.executable, "-u", str(script)],
        cwd=script.parent,
        env={**inherited, **variables, "NO_PROXY": "*"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield process.pid
        finally:
            # The SDK sends its heartbeats from a second process.
            os.killpg(process.pid, signal.SIGKILL)
