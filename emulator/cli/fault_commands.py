"""The commands about faults that are ordered of an emulator that is running."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli.asking import (
    ApiKey,
    AsJSON,
    Url,
    given,
    read_input,
    running_emulator,
    table,
    tell,
)

if TYPE_CHECKING:
    pass
from emulator.cli.help import Command, Commands

fault_commands = typer.Typer(
    cls=Commands, rich_markup_mode=None, help="Order failures, and lift them.", no_args_is_help=True
)


@fault_commands.command("ls", cls=Command)
def faults_list(url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False) -> None:
    """The rules in force, and how often each fired."""
    with running_emulator(url, api_key) as emulator:
        found = emulator.control("GET", "/faults")
        rows = [
            (rule["id"], json.dumps(rule["match"]), json.dumps(rule["then"]), str(rule["fired"]))
            for rule in found["faults"]
        ]
        tell(found, as_json, table(("fault", "match", "then", "fired"), rows))


@fault_commands.command("add", cls=Command)
def faults_add(
    rule: Annotated[
        str,
        typer.Argument(
            metavar="RULE",
            help="The rule: JSON, @FILE, or -, for example"
            ' {"match": {"operation": "run"}, "then": {"status": 503}}.',
        ),
    ],
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJSON = False,
) -> None:
    """Order a fault."""
    with running_emulator(url, api_key) as emulator:
        added = emulator.control("POST", "/faults", read_input(rule))
        tell(added, as_json, added["id"])


@fault_commands.command("preset", cls=Command)
def faults_preset(
    name: Annotated[str, typer.Argument(metavar="PRESET", help="The preset's name.")],
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", metavar="ID", help="For this endpoint alone.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJSON = False,
) -> None:
    """Order all faults of a preset."""
    with running_emulator(url, api_key) as emulator:
        added = emulator.control("POST", f"/faults/presets/{name}", **given(endpoint=endpoint))
        tell(added, as_json, "\n".join(rule["id"] for rule in added["faults"]))


@fault_commands.command("clear", cls=Command)
def faults_clear(
    rule_id: Annotated[str | None, typer.Argument(metavar="[FAULT]", help="Only this one.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJSON = False,
) -> None:
    """Lift a fault, or all."""
    with running_emulator(url, api_key) as emulator:
        lifted = emulator.control("DELETE", f"/faults/{rule_id}" if rule_id else "/faults")
        tell(lifted, as_json, f"{lifted['deleted']} lifted")


# What they have in common
