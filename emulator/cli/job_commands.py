"""The commands about jobs of an emulator that is running."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emulator.cli.asking import (
    EXIT_FAILED,
    EXIT_TIMED_OUT,
    AsJSON,
    EndpointId,
    Url,
    endpoint_id,
    fail,
    given,
    parsed,
    read_input,
    readable,
    running_emulator,
    shortened,
    shown_ms,
    table,
    tell,
)
from emulator.settings import duration_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emulator.client import EmulatorClient, JobClient

_FAILED = frozenset({"FAILED", "CANCELLED"})
_TIMED_OUT = "TIMED_OUT"
_NOT_ENDED = frozenset({"IN_QUEUE", "IN_PROGRESS"})
#: Real seconds from one look at a job that is waited for to the next.
_LOOK_S = 1.0
#: Real seconds after which it is said what a job waits for that will yet get it.
_PATIENCE_S = 3.0


def submit(
    input: Annotated[str, typer.Argument(help="The job's input: JSON, @FILE, or - for standard input.")],
    endpoint: EndpointId = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end, and print its output.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="For how long to wait (a number is s).")] = "10m",
    webhook: Annotated[str | None, typer.Option("--webhook", help="A URL to tell of its end.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", help='JSON, e.g. {"ttl": 60000}.')] = None,
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Queue a job; with --wait, see it through."""
    with running_emulator(url) as emulator:
        fields = {"webhook": webhook, "policy": None if policy is None else parsed(policy, "--policy")}
        given = {name: value for name, value in fields.items() if value is not None}
        job = emulator.endpoint(endpoint_id(emulator, endpoint)).submit(read_input(input), **given)
        if wait:
            _see_through(job, duration_ms(timeout, "s") / 1000, as_json)
        else:
            tell({"id": job.id, "status": "IN_QUEUE"}, as_json, job.id)


def status(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="For how long to wait (a number is s).")] = "10m",
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """A job as it stands, and how it got there."""
    with running_emulator(url) as emulator:
        job = _job(emulator, job_id)
        if wait:
            _see_through(job, duration_ms(timeout, "s") / 1000, as_json)
            return
        view = job.view
        waiting = [f"waiting: {view['waiting_for']}"] if view["waiting_for"] else []
        tell(view, as_json, "\n".join([f"{view['status']}  {job.id}", *job.timeline, *waiting]))
        _exit_as(view["status"])


def jobs(
    endpoint: EndpointId = None,
    only: Annotated[str | None, typer.Option("--status", help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many.")] = 20,
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """The newest jobs."""
    with running_emulator(url) as emulator:
        found = emulator.control("GET", "/jobs", limit=str(limit), **given(endpoint=endpoint, status=only))
        rows = [
            (job["id"], job["endpoint"], job["status"],
             shown_ms(job["delay_ms"]), shown_ms(job["execution_ms"]),
             shortened(job["error"] or job["output"] or job["waiting_for"]))
            for job in found["jobs"]
        ]  # fmt: skip
        titles = ("job", "endpoint", "status", "delay", "execution", "output or error")
        # What they wait for, in full: what is to be done about it comes last.
        endless = {job["waiting_for"] for job in found["jobs"] if job["waits_endlessly"]}
        told = [f"waiting: {waiting_for}" for waiting_for in sorted(endless)]
        tell(found, as_json, "\n".join([table(titles, rows), *told]))


def cancel(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Cancel a job."""
    with running_emulator(url) as emulator:
        job = _job(emulator, job_id).cancel()
        tell({"id": job.id, "status": job.status}, as_json, job.status)


def retry(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Queue a failed job again."""
    with running_emulator(url) as emulator:
        job = _job(emulator, job_id).retry()
        tell({"id": job.id, "status": job.status}, as_json, job.status)


def logs(
    of: Annotated[str, typer.Argument(metavar="JOB|WORKER", help="The id of a job or a worker.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it has ended.")] = False,
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """What a worker wrote, or workers about a job."""
    with running_emulator(url) as emulator:
        workers = emulator.control("GET", "/workers")["workers"]
        kind = "workers" if any(worker["id"] == of for worker in workers) else "jobs"
        path = f"/{kind}/{of}/logs"
        lines = emulator.follow(path) if follow else emulator.control("GET", path)["lines"]
        for line in lines:
            typer.echo(json.dumps(line) if as_json else line["text"])


def reset(url: Url = None, as_json: AsJSON = False) -> None:
    """Forget all jobs, webhooks, stubs, faults, sinks and the journal."""
    with running_emulator(url) as emulator:
        counts = emulator.control("POST", "/reset")
        forgotten = sum(each["jobs"] for each in counts["reset"].values())
        tell(counts, as_json, f"{forgotten} {'job' if forgotten == 1 else 'jobs'} forgotten")


def env(url: Url = None, as_json: AsJSON = False) -> None:
    """The variables that point SDKs at the emulator: `eval "$(runpod-emulator env)"`."""
    with running_emulator(url) as emulator:
        variables = {
            "RUNPOD_ENDPOINT_BASE_URL": emulator.base_url,
            "RUNPOD_API_KEY": emulator.api_key,
            "EMULATOR_URL": emulator.url,
        }
        tell(variables, as_json, "\n".join(f"export {name}={value}" for name, value in variables.items()))


# clock


def _see_through(job: JobClient, timeout_s: float, as_json: bool) -> None:
    """Wait for the end of a job, showing how it gets on; print its output, exit as it ended."""
    view = job.view
    with _progress(job) as (show, say):
        left_s = timeout_s
        said: set[str] = set()
        while view["status"] in _NOT_ENDED and left_s > 0:
            waiting_for = view["waiting_for"]
            if waiting_for and (view["waits_endlessly"] or timeout_s - left_s >= _PATIENCE_S):
                # Of what will yet end, the first that is seen will do.
                what = waiting_for if view["waits_endlessly"] else ""
                if what not in said:
                    say(f"job {job.id} waits: {waiting_for}")
                said.add(what)
            show(view)
            view = job.look_again(min(left_s, _LOOK_S))
            left_s -= _LOOK_S
    if view["status"] in _NOT_ENDED:
        why = f": {view['waiting_for']}" if view["waiting_for"] else ""
        fail(f"job {job.id} is {view['status']} after {timeout_s:g} s{why}", EXIT_TIMED_OUT)
    if as_json:
        typer.echo(json.dumps(view))
    elif view["error"] is not None:
        typer.echo(f"{view['status']}: {readable(view['error'])}", err=True)
    elif view["status"] == "COMPLETED":
        typer.echo(json.dumps(view["output"], indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))
    else:
        typer.echo(view["status"], err=True)
    _exit_as(view["status"])


def _job(emulator: EmulatorClient, job_id: str) -> JobClient:
    return emulator.endpoint(emulator.control("GET", f"/jobs/{job_id}")["endpoint"]).job(job_id)


@contextmanager
def _progress(job: JobClient) -> Iterator[tuple[Callable[[dict[str, Any]], None], Callable[[str], None]]]:
    """To show a job's state with, on a terminal, and to say something beside it, on standard error."""
    if not sys.stderr.isatty():
        yield lambda view: None, lambda said: typer.echo(said, err=True)
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(f"job {job.id}") as shown:

        def show(view: dict[str, Any]) -> None:
            progress = f"  {shortened(view['output'])}" if view["output"] is not None else ""
            shown.update(f"job {job.id}  {view['status']}{progress}")

        def say(said: str) -> None:
            console.print(said, markup=False, highlight=False, soft_wrap=True)

        yield show, say


def _exit_as(status: str) -> None:
    if status == _TIMED_OUT:
        raise typer.Exit(EXIT_TIMED_OUT)
    if status in _FAILED:
        raise typer.Exit(EXIT_FAILED)
