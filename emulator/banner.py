"""What `serve` prints when it is ready: what runs where, and how to point a client at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.core.scaling import ScalerType
from emulator.version import __version__

if TYPE_CHECKING:
    from emulator.core.config import EndpointConfig
    from emulator.emulator import Emulator
    from emulator.settings import WorkerKind


def banner(emulator: Emulator, worker_kind: WorkerKind) -> str:
    """The lines to print for an emulator that is served."""
    rows = [("url", emulator.url)]
    for endpoint_id in emulator.endpoint_ids:
        handler = emulator.handler(endpoint_id)
        rows += [
            ("endpoint", f"{endpoint_id}  {emulator.url}/v2/{endpoint_id}"),
            ("handler", f"{handler.name} ({handler.kind.value})"),
            ("workers", _workers(emulator.endpoint(endpoint_id).config, worker_kind)),
        ]
    rows += [("clock", emulator.clock.mode), ("docs", f"{emulator.url}/_emulator/docs")]
    table = "\n".join(f"  {name:<9} {value}" for name, value in rows)
    key = "one-of-your-keys" if emulator.checks_keys else "anything"
    return (
        f"\nrunpod-emulator {__version__}\n\n{table}\n\n"
        "Point the SDKs here:\n"
        f"  export RUNPOD_ENDPOINT_BASE_URL={emulator.url}/v2\n"
        f"  export RUNPOD_API_KEY={key}\n"
        f'  JavaScript: runpodSdk("{key}", {{ baseUrl: "{emulator.url}/v2" }})\n'
    )


def _workers(config: EndpointConfig, worker_kind: WorkerKind) -> str:
    unit = " s" if config.scaler_type is ScalerType.QUEUE_DELAY else " jobs a worker"
    return (
        f"{worker_kind}, {config.workers_min} to {config.workers_max},"
        f" {config.scaler_type} {config.scaler_value}{unit}, idle timeout {config.idle_timeout_s:g} s"
    )
