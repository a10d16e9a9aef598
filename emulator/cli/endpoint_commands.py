"""The commands about the endpoints of an emulator that is running, and about it as a whole."""

from __future__ import annotations

import typer

from emulator.cli.asking import (
    UNAUTHORIZED,
    ApiKey,
    AsJSON,
    EndpointId,
    Url,
    endpoint_id,
    running_emulator,
    tell,
)


def health(
    endpoint: EndpointId = None, url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False
) -> None:
    """How many jobs and workers are in each state."""
    with running_emulator(url, api_key) as emulator:
        name = endpoint_id(emulator, endpoint)
        counts = emulator.endpoint(name).health()
        lines = [
            f"{what:<8} " + ", ".join(f"{count} {state}" for state, count in counts[what].items())
            for what in ("jobs", "workers")
        ]
        # What keeps its workers from starting, if anything does.
        listed = emulator.control("GET", "/endpoints")["endpoints"]
        obstacles = [each["obstacle"] for each in listed if each["id"] == name and each["obstacle"]]
        tell(counts, as_json, "\n".join([f"endpoint {name}", *lines, *obstacles]))


def purge(
    endpoint: EndpointId = None, url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False
) -> None:
    """Cancel all jobs that wait in the queue; those that run go on."""
    with running_emulator(url, api_key) as emulator:
        removed = emulator.endpoint(endpoint_id(emulator, endpoint)).purge_queue()
        tell({"removed": removed}, as_json, f"{removed} {'job' if removed == 1 else 'jobs'} removed")


def reset(url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False) -> None:
    """Forget all jobs, webhooks, stubs, faults, sinks and the journal."""
    with running_emulator(url, api_key) as emulator:
        counts = emulator.control("POST", "/reset")
        forgotten = sum(each["jobs"] for each in counts["reset"].values())
        tell(counts, as_json, f"{forgotten} {'job' if forgotten == 1 else 'jobs'} forgotten")


def env(url: Url = None, api_key: ApiKey = None, as_json: AsJSON = False) -> None:
    """Print the variables that point SDKs at it.

    For a shell: eval "$(runpod-emulator env)"
    """
    from emulator.client import CallRefused, Refused

    with running_emulator(url, api_key) as emulator:
        variables = {
            "RUNPOD_ENDPOINT_BASE_URL": emulator.base_url,
            "RUNPOD_API_KEY": emulator.api_key,
            "EMULATOR_URL": emulator.url,
        }
        try:
            emulator.endpoint(endpoint_id(emulator, None)).health()
        except (CallRefused, Refused) as error:
            if error.status != UNAUTHORIZED:
                raise
            del variables["RUNPOD_API_KEY"]
            typer.echo(
                "note: this emulator takes certain keys alone, and none of them is known here: give one with"
                " --api-key or EMULATOR_API_KEY",
                err=True,
            )
        tell(variables, as_json, "\n".join(f"export {name}={value}" for name, value in variables.items()))
