"""The commands about the time of an emulator that is running."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from emulator.cli.asking import (
    ApiKey,
    AsJSON,
    OfEndpoint,
    Url,
    duration,
    given,
    running_emulator,
    tell,
)
from emulator.cli.help import Command, Commands

clock_commands = typer.Typer(
    cls=Commands, rich_markup_mode=None, help="Look at the emulated time, and move it.", no_args_is_help=True
)


@clock_commands.command("show", cls=Command)
def clock_show(
    endpoint: OfEndpoint = None, url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False
) -> None:
    """The time, how it runs, and what it will bring."""
    _clock(url, api_key, as_json, "GET", "", None, endpoint)


@clock_commands.command("mode", cls=Command)
def clock_mode(
    mode: Annotated[str, typer.Argument(metavar="real|frozen|auto|scaled:N", help="How time is to run.")],
    endpoint: OfEndpoint = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJSON = False,
) -> None:
    """Let time run as real time, stand still, skip, or run faster."""
    _clock(url, api_key, as_json, "PUT", "", {"mode": mode}, endpoint)


@clock_commands.command("freeze", cls=Command)
def clock_freeze(
    endpoint: OfEndpoint = None, url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False
) -> None:
    """Stop time."""
    _clock(url, api_key, as_json, "POST", "/freeze", None, endpoint)


@clock_commands.command("resume", cls=Command)
def clock_resume(
    endpoint: OfEndpoint = None, url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False
) -> None:
    """Let time run again."""
    _clock(url, api_key, as_json, "POST", "/resume", None, endpoint)


# -5s is to be told that it is no duration, and not that it is no option.
@clock_commands.command("advance", cls=Command, context_settings={"ignore_unknown_options": True})
def clock_advance(
    by: Annotated[
        str,
        typer.Argument(
            metavar="DURATION|next",
            help="How far: 500ms, 10s, 2h; next: to what is due next; a bare number is ms.",
        ),
    ],
    endpoint: OfEndpoint = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJSON = False,
) -> None:
    """Move time forward, and see what that brings about."""
    body = {"to_next": True} if by == "next" else {"by_ms": duration(by)}
    _clock(url, api_key, as_json, "POST", "/advance", body, endpoint)


@clock_commands.command("until", cls=Command)
def clock_until(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    status: Annotated[
        str, typer.Argument(metavar="STATUS", help="The state it is to get into, e.g. TIMED_OUT.")
    ],
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJSON = False,
) -> None:
    """Move time forward until a job is in a state."""
    _clock(
        url, api_key, as_json, "POST", "/advance", {"until": {"job": job_id, "status": status.upper()}}, None
    )


def _clock(
    url: str | None,
    api_key: str | None,
    as_json: bool,
    method: str,
    path: str,
    body: object,
    endpoint: str | None,
) -> None:
    with running_emulator(url, api_key) as emulator:
        state = emulator.control(method, f"/clock{path}", body, **given(endpoint=endpoint))
        now = datetime.fromtimestamp(state["now_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        lines = [f"{state['mode']}, {now} UTC, {state['pending']} timers pending"]
        lines += [
            f"  fired {timer['kind']}  {timer['subject'] or ''}".rstrip() for timer in state.get("fired", ())
        ]
        if (due := state["next_timer"]) is not None:
            in_ms = due["at_ms"] - state["now_ms"]
            lines.append(f"  next  {due['kind']} in {in_ms} ms  {due['subject'] or ''}".rstrip())
        tell(state, as_json, "\n".join(lines))
