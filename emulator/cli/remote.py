"""The commands that talk to an emulator that is running."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from emulator.core.job_error import explained
from emulator.errors import ConfigError, EmulatorError
from emulator.settings import VARIABLE_PREFIX, duration_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from emulator.client import EmulatorClient, JobClient

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_TIMED_OUT = 4
_FAILED = frozenset({"FAILED", "CANCELLED"})
_TIMED_OUT = "TIMED_OUT"
_NOT_ENDED = frozenset({"IN_QUEUE", "IN_PROGRESS"})
#: Real seconds from one look at a job that is waited for to the next.
_LOOK_S = 1.0
#: Real seconds after which it is said what a job waits for that will yet get it.
_PATIENCE_S = 3.0

Url = Annotated[
    str | None,
    typer.Option("--url", envvar=f"{VARIABLE_PREFIX}URL", help="Where the emulator serves."),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
EndpointId = Annotated[str | None, typer.Option("--endpoint", help="The endpoint's id (default: the first).")]
Clock = Annotated[str | None, typer.Option("--endpoint", help="An endpoint that has a time of its own.")]

clock_commands = typer.Typer(help="Look at the emulated time, and move it.", no_args_is_help=True)
fault_commands = typer.Typer(help="Order failures, and lift them.", no_args_is_help=True)


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
    with _emulator(url) as emulator:
        fields = {"webhook": webhook, "policy": None if policy is None else _parsed(policy, "--policy")}
        given = {name: value for name, value in fields.items() if value is not None}
        job = emulator.endpoint(_endpoint_id(emulator, endpoint)).submit(_read_input(input), **given)
        if wait:
            _see_through(job, duration_ms(timeout, "s") / 1000, as_json)
        else:
            _print({"id": job.id, "status": "IN_QUEUE"}, as_json, job.id)


def status(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="For how long to wait (a number is s).")] = "10m",
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """A job as it stands, and how it got there."""
    with _emulator(url) as emulator:
        job = _job(emulator, job_id)
        if wait:
            _see_through(job, duration_ms(timeout, "s") / 1000, as_json)
            return
        view = job.view
        waiting = [f"waiting: {view['waiting_for']}"] if view["waiting_for"] else []
        _print(view, as_json, "\n".join([f"{view['status']}  {job.id}", *job.timeline, *waiting]))
        _exit_as(view["status"])


def jobs(
    endpoint: EndpointId = None,
    only: Annotated[str | None, typer.Option("--status", help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many.")] = 20,
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """The newest jobs."""
    with _emulator(url) as emulator:
        found = emulator.control("GET", "/jobs", limit=str(limit), **_given(endpoint=endpoint, status=only))
        rows = [
            (job["id"], job["endpoint"], job["status"], _ms(job["delay_ms"]), _ms(job["execution_ms"]),
             _short(job["error"] or job["output"] or job["waiting_for"]))
            for job in found["jobs"]
        ]  # fmt: skip
        titles = ("job", "endpoint", "status", "delay", "execution", "output or error")
        # What they wait for, in full: what is to be done about it comes last.
        endless = {job["waiting_for"] for job in found["jobs"] if job["waits_endlessly"]}
        told = [f"waiting: {waiting_for}" for waiting_for in sorted(endless)]
        _print(found, as_json, "\n".join([_table(titles, rows), *told]))


def cancel(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Cancel a job."""
    with _emulator(url) as emulator:
        job = _job(emulator, job_id).cancel()
        _print({"id": job.id, "status": job.status}, as_json, job.status)


def retry(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Queue a failed job again."""
    with _emulator(url) as emulator:
        job = _job(emulator, job_id).retry()
        _print({"id": job.id, "status": job.status}, as_json, job.status)


def logs(
    of: Annotated[str, typer.Argument(metavar="JOB|WORKER", help="The id of a job or a worker.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it has ended.")] = False,
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """What a worker wrote, or workers about a job."""
    with _emulator(url) as emulator:
        workers = emulator.control("GET", "/workers")["workers"]
        kind = "workers" if any(worker["id"] == of for worker in workers) else "jobs"
        path = f"/{kind}/{of}/logs"
        lines = emulator.follow(path) if follow else emulator.control("GET", path)["lines"]
        for line in lines:
            typer.echo(json.dumps(line) if as_json else line["text"])


def reset(url: Url = None, as_json: AsJSON = False) -> None:
    """Forget all jobs, webhooks, stubs, faults, sinks and the journal."""
    with _emulator(url) as emulator:
        counts = emulator.control("POST", "/reset")
        forgotten = sum(each["jobs"] for each in counts["reset"].values())
        _print(counts, as_json, f"{forgotten} {'job' if forgotten == 1 else 'jobs'} forgotten")


def env(url: Url = None, as_json: AsJSON = False) -> None:
    """The variables that point SDKs at the emulator: `eval "$(runpod-emulator env)"`."""
    with _emulator(url) as emulator:
        variables = {
            "RUNPOD_ENDPOINT_BASE_URL": emulator.base_url,
            "RUNPOD_API_KEY": emulator.api_key,
            "EMULATOR_URL": emulator.url,
        }
        _print(variables, as_json, "\n".join(f"export {name}={value}" for name, value in variables.items()))


# clock


@clock_commands.command("show")
def clock_show(endpoint: Clock = None, url: Url = None, as_json: AsJSON = False) -> None:
    """The time, how it runs, and what it will bring."""
    _clock(url, as_json, "GET", "", None, endpoint)


@clock_commands.command("mode")
def clock_mode(
    mode: Annotated[str, typer.Argument(metavar="real|frozen|auto|scaled:N", help="How time is to run.")],
    endpoint: Clock = None,
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Have time run otherwise."""
    _clock(url, as_json, "PUT", "", {"mode": mode}, endpoint)


@clock_commands.command("freeze")
def clock_freeze(endpoint: Clock = None, url: Url = None, as_json: AsJSON = False) -> None:
    """Stop time."""
    _clock(url, as_json, "POST", "/freeze", None, endpoint)


@clock_commands.command("resume")
def clock_resume(endpoint: Clock = None, url: Url = None, as_json: AsJSON = False) -> None:
    """Let time run again."""
    _clock(url, as_json, "POST", "/resume", None, endpoint)


@clock_commands.command("advance")
def clock_advance(
    by: Annotated[str, typer.Argument(help="How far: 500ms, 10s, 2h; next; a number is ms.")],
    endpoint: Clock = None,
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Move time forward, and see what that brings about."""
    body = {"to_next": True} if by == "next" else {"by_ms": _duration(by)}
    _clock(url, as_json, "POST", "/advance", body, endpoint)


@clock_commands.command("until")
def clock_until(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    status: Annotated[str, typer.Argument(help="The state it is to get into, e.g. TIMED_OUT.")],
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Move time forward until a job is in a state."""
    _clock(url, as_json, "POST", "/advance", {"until": {"job": job_id, "status": status}}, None)


# faults


@fault_commands.command("ls")
def faults_list(url: Url = None, as_json: AsJSON = False) -> None:
    """The rules in force, and how often each fired."""
    with _emulator(url) as emulator:
        found = emulator.control("GET", "/faults")
        rows = [
            (rule["id"], json.dumps(rule["match"]), json.dumps(rule["then"]), str(rule["fired"]))
            for rule in found["faults"]
        ]
        _print(found, as_json, _table(("fault", "match", "then", "fired"), rows))


@fault_commands.command("add")
def faults_add(
    rule: Annotated[str, typer.Argument(help="The rule: JSON, @FILE, or - (docs/faults.md).")],
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Order a fault."""
    with _emulator(url) as emulator:
        added = emulator.control("POST", "/faults", _read_input(rule))
        _print(added, as_json, added["id"])


@fault_commands.command("preset")
def faults_preset(
    name: Annotated[str, typer.Argument(help="The preset's name.")],
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="For this endpoint alone.")] = None,
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Order all faults of a preset."""
    with _emulator(url) as emulator:
        added = emulator.control("POST", f"/faults/presets/{name}", **_given(endpoint=endpoint))
        _print(added, as_json, "\n".join(rule["id"] for rule in added["faults"]))


@fault_commands.command("clear")
def faults_clear(
    rule_id: Annotated[str | None, typer.Argument(metavar="[FAULT]", help="Only this one.")] = None,
    url: Url = None,
    as_json: AsJSON = False,
) -> None:
    """Lift a fault, or all."""
    with _emulator(url) as emulator:
        lifted = emulator.control("DELETE", f"/faults/{rule_id}" if rule_id else "/faults")
        _print(lifted, as_json, f"{lifted['deleted']} lifted")


# What they have in common


@contextmanager
def _emulator(url: str | None) -> Iterator[EmulatorClient]:
    """The emulator that is talked to; what goes wrong becomes a sentence and an exit code."""
    from emulator.client import EmulatorClient, EmulatorUnreachable

    if url is None:
        port = os.environ.get(f"{VARIABLE_PREFIX}PORT", "8000")
        url = f"http://127.0.0.1:{port}"
    keys = os.environ.get(f"{VARIABLE_PREFIX}API_KEY", "").split()
    try:
        with EmulatorClient(url, api_key=keys[0] if keys else "local") as emulator:
            yield emulator
    except EmulatorUnreachable as error:
        _fail(str(error), EXIT_UNREACHABLE)
    except ConfigError as error:
        _fail(str(error), EXIT_USAGE)
    except EmulatorError as error:
        _fail(str(error), EXIT_FAILED)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


def _endpoint_id(emulator: EmulatorClient, given: str | None) -> str:
    if given is not None:
        return given
    return str(emulator.control("GET", "/endpoints")["endpoints"][0]["id"])


def _job(emulator: EmulatorClient, job_id: str) -> JobClient:
    return emulator.endpoint(emulator.control("GET", f"/jobs/{job_id}")["endpoint"]).job(job_id)


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
        _fail(f"job {job.id} is {view['status']} after {timeout_s:g} s{why}", EXIT_TIMED_OUT)
    if as_json:
        typer.echo(json.dumps(view))
    elif view["error"] is not None:
        typer.echo(f"{view['status']}: {_readable(view['error'])}", err=True)
    elif view["status"] == "COMPLETED":
        typer.echo(json.dumps(view["output"], indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))
    else:
        typer.echo(view["status"], err=True)
    _exit_as(view["status"])


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
            progress = f"  {_short(view['output'])}" if view["output"] is not None else ""
            shown.update(f"job {job.id}  {view['status']}{progress}")

        def say(said: str) -> None:
            console.print(said, markup=False, highlight=False, soft_wrap=True)

        yield show, say


def _exit_as(status: str) -> None:
    if status == _TIMED_OUT:
        raise typer.Exit(EXIT_TIMED_OUT)
    if status in _FAILED:
        raise typer.Exit(EXIT_FAILED)


def _clock(
    url: str | None, as_json: bool, method: str, path: str, body: object, endpoint: str | None
) -> None:
    with _emulator(url) as emulator:
        state = emulator.control(method, f"/clock{path}", body, **_given(endpoint=endpoint))
        now = datetime.fromtimestamp(state["now_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        lines = [f"{state['mode']}, {now} UTC, {state['pending']} timers pending"]
        lines += [
            f"  fired {timer['kind']}  {timer['subject'] or ''}".rstrip() for timer in state.get("fired", ())
        ]
        if (due := state["next_timer"]) is not None:
            in_ms = due["at_ms"] - state["now_ms"]
            lines.append(f"  next  {due['kind']} in {in_ms} ms  {due['subject'] or ''}".rstrip())
        _print(state, as_json, "\n".join(lines))


def _print(document: Any, as_json: bool, text: str) -> None:
    typer.echo(json.dumps(document) if as_json else text)


def _read_input(given: str) -> Any:
    if given == "-":
        return _parsed(sys.stdin.read(), "standard input")
    if given.startswith("@"):
        try:
            return _parsed(Path(given[1:]).read_text(encoding="utf-8"), given[1:])
        except OSError as error:
            raise ConfigError(f"{given[1:]}: {error.strerror}") from error
    return _parsed(given, "the argument")


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{place} is not JSON: {error}") from error


def _duration(text: str) -> int:
    try:
        return duration_ms(text, "ms")
    except ConfigError as error:
        _fail(str(error), EXIT_USAGE)


def _given(**parameters: str | None) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (titles, *rows)
    ]
    return "\n".join(lines)


def _ms(value: int | None) -> str:
    return "" if value is None else f"{value} ms"


def _short(value: object, limit: int = 60) -> str:
    text = "" if value is None else _readable(value) if isinstance(value, str) else json.dumps(value)
    text = text.strip().splitlines()[-1] if text.strip() else ""
    return text if len(text) <= limit else f"{text[:limit]}…"


def _readable(error: str) -> str:
    """An error as it reads best: of an exception, the traceback."""
    return explained(error)[1] or error
