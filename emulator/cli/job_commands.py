"""The commands about jobs of an emulator that is running."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emulator.cli.asking import (
    ApiKey,
    AsJSON,
    EndpointId,
    JobId,
    Url,
    endpoint_id,
    found_job,
    given,
    parsed,
    read_input,
    readable,
    running_emulator,
    shortened,
    shown_id,
    shown_ms,
    table,
    tell,
)
from emulator.cli.seeing_through import exit_as, progress_of, see_through, times
from emulator.cli.terminal_text import printable
from emulator.core.durations import duration_ms

if TYPE_CHECKING:
    from emulator.client import EmulatorClient

Timeout = Annotated[
    str,
    typer.Option("--timeout", metavar="DURATION", help="For how long to wait (a bare number is s)."),
]


def submit(
    input: Annotated[
        str, typer.Argument(metavar="INPUT", help="The job's input: JSON, @FILE, or - for standard input.")
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end, and print its output.")] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Wait, and print each chunk as it comes, one a line.")
    ] = False,
    timeout: Timeout = "10m",
    endpoint: EndpointId = None,
    webhook: Annotated[
        str | None, typer.Option("--webhook", metavar="URL", help="Where to tell of its end.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="JSON", help='For example {"ttl": 60000}, in ms.')
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJSON = False,
) -> None:
    """Queue a job; with --wait, see it through.

    What its worker writes and what it waits for go to standard error, its output to standard output.
    """
    with running_emulator(url, api_key) as emulator:
        timeout_s = duration_ms(timeout, "s") / 1000
        fields = {"webhook": webhook, "policy": None if policy is None else parsed(policy, "--policy")}
        more = {name: value for name, value in fields.items() if value is not None}
        value = read_input(input)
        job = emulator.endpoint(endpoint_id(emulator, endpoint)).submit(value, **more)
        if value == {}:
            typer.echo(
                "note: the input is {}: no worker ever receives such a job, in production or here, and after"
                " two time-outs it is FAILED; send at least one key",
                err=True,
            )
        if wait or stream:
            see_through(job, timeout_s, as_json, stream=stream)
        else:
            tell({"id": job.id, "status": "IN_QUEUE"}, as_json, job.id)


def status(
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end, and print its output.")] = False,
    timeout: Timeout = "10m",
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJSON = False,
) -> None:
    """A job as it stands, and how it got there."""
    with running_emulator(url, api_key) as emulator:
        job = found_job(emulator, job_id)
        if wait:
            see_through(job, duration_ms(timeout, "s") / 1000, as_json)
            return
        view = job.view
        lines = [f"{view['status']}  {job.id}", *job.timeline, *_told(view)]
        tell(view, as_json, "\n".join(lines))
        exit_as(view["status"])


def jobs(
    endpoint: EndpointId = None,
    only: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Only those in this state, e.g. FAILED.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.")] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJSON = False,
) -> None:
    """The newest jobs."""
    with running_emulator(url, api_key) as emulator:
        wanted = given(endpoint=endpoint, status=only and only.upper().replace("-", "_"))
        found = emulator.control("GET", "/jobs", limit=str(limit), **wanted)
        # On a terminal no line is to be longer than it is wide.
        room = 28 if sys.stdout.isatty() else 60
        rows = [
            (shown_id(job["id"]), job["endpoint"], job["status"],
             shown_ms(job["delay_ms"]), shown_ms(job["execution_ms"]),
             shortened(job["error"] or job["output"] or job["waiting_for"], room))
            for job in found["jobs"]
        ]  # fmt: skip
        titles = ("job", "endpoint", "status", "delay", "execution", "output or error")
        # What they wait for, in full: what is to be done about it comes last.
        endless = {job["waiting_for"] for job in found["jobs"] if job["waits_endlessly"]}
        told = [f"waiting: {waiting_for}" for waiting_for in sorted(endless)]
        tell(found, as_json, "\n".join([table(titles, rows), *told]) if rows else "no jobs")


def cancel(job_id: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False) -> None:
    """Cancel a job."""
    with running_emulator(url, api_key) as emulator:
        job = found_job(emulator, job_id).cancel()
        tell({"id": job.id, "status": job.status}, as_json, job.status)


def retry(job_id: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False) -> None:
    """Queue a failed job again."""
    with running_emulator(url, api_key) as emulator:
        job = found_job(emulator, job_id).retry()
        # As the endpoint answers: by now it may have failed again.
        tell({"id": job.id, "status": "IN_QUEUE"}, as_json, "IN_QUEUE")


def logs(
    of: Annotated[str, typer.Argument(metavar="JOB|WORKER", help="The id of a job or a worker.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it has ended.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJSON = False,
) -> None:
    """What a worker wrote, or workers about a job."""
    with running_emulator(url, api_key) as emulator:
        workers = emulator.control("GET", "/workers")["workers"]
        is_worker = any(worker["id"] == of for worker in workers)
        path = f"/workers/{of}/logs" if is_worker else f"/jobs/{found_job(emulator, of).id}/logs"
        count = 0
        for line in emulator.follow(path) if follow else emulator.control("GET", path)["lines"]:
            count += 1
            typer.echo(json.dumps(line) if as_json else printable(line["text"]))
        if not count and _is_inline(emulator, workers, of, is_worker=is_worker):
            typer.echo(
                "note: an inline worker prints where the emulator runs; --worker-kind process keeps lines",
                err=True,
            )


def _is_inline(emulator: EmulatorClient, workers: list[dict[str, Any]], of: str, *, is_worker: bool) -> bool:
    if is_worker:
        return any(worker["id"] == of and worker["kind"] == "inline" for worker in workers)
    # Its worker may be gone by now.
    endpoint_id = found_job(emulator, of).view["endpoint"]
    return bool(emulator.control("GET", f"/endpoints/{endpoint_id}")["worker_kind"] == "inline")


def _told(view: dict[str, Any]) -> list[str]:
    """What a job waits for, how far it is, and what came of it."""
    told = [f"waiting: {view['waiting_for']}"] if view["waiting_for"] else []
    if spent := times(view):
        told.append(spent)
    if view["error"] is not None:
        told.append(f"error: {readable(view['error'])}")
    if view["output"] is not None and view["status"] == "IN_PROGRESS":
        told.append(f"progress: {progress_of(view['output'])}")
    elif view["output"] is not None:
        told.append(f"output: {shortened(json.dumps(view['output'], ensure_ascii=False), 2_000)}")
    return told
