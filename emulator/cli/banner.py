"""What `serve` prints when it is ready: what runs where, and how to point a client at it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from emulator.core.config import WorkerKind
from emulator.core.scaling import ScalerType
from emulator.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.core.config import EndpointConfig
    from emulator.emulator import Emulator


def banner(emulator: Emulator, *, reload: bool, in_folder: Path | None = None) -> str:
    """The lines to print for an emulator that is served.

    :param in_folder: where workers run, if that was set.
    """
    # Keys are shown nowhere; that of workers is good for nothing else.
    key = "one-of-your-keys" if emulator.checks_keys else "anything"
    rows = [("url", emulator.url)]
    for endpoint_id in emulator.endpoint_ids:
        kind = emulator.worker_kind(endpoint_id)
        rows.append(("endpoint", f"{endpoint_id}  {emulator.url}/v2/{endpoint_id}"))
        if kind is WorkerKind.EXTERNAL:
            rows.append(("workers", "external: those that come; give each these variables:"))
            rows += [("", line) for line in _variables(emulator.url, endpoint_id, emulator.worker_key)]
        else:
            rows.append(("handler", emulator.describe_handler(endpoint_id)))
            rows.append(("workers", _workers(emulator.endpoint(endpoint_id).config, kind)))
            if (door := emulator.worker_url(endpoint_id)) is not None:
                rows.append(("", f"they reach it at {door}, where workers alone are let in"))
    if in_folder is not None:
        rows.append(("workdir", str(in_folder)))
    if reload and emulator.projects():
        rows.append(("reload", "saved code is taken up at once"))
    if reload and emulator.images():
        rows.append(("reload", "an image that is built anew is taken up within seconds"))
    if emulator.store is not None:
        rows.append(
            ("s3", f"{emulator.store.url}  bucket {emulator.store.bucket}, in memory; workers have its keys")
        )
        rows.append(("", f'"s3Config": {json.dumps(emulator.store.s3_config)}'))
    rows += [
        ("clock", emulator.clock.mode),
        ("console", f"{emulator.url}/"),
        ("docs", f"{emulator.url}/_emulator/docs"),
    ]
    table = "\n".join(f"  {name:<9} {value}" for name, value in rows)
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


def _variables(url: str, endpoint_id: str, key: str) -> list[str]:
    """What makes the SDK of any process a worker of the endpoint (wire.md 7)."""
    base = f"{url}/v2/{endpoint_id}"
    return [
        f"RUNPOD_WEBHOOK_GET_JOB='{base}/job-take/$ID?gpu=none'",
        f"RUNPOD_WEBHOOK_POST_OUTPUT='{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none'",
        f"RUNPOD_WEBHOOK_POST_STREAM='{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none'",
        f"RUNPOD_WEBHOOK_PING='{base}/ping/$RUNPOD_POD_ID?gpu=none'",
        f"RUNPOD_ENDPOINT_ID={endpoint_id} RUNPOD_AI_API_KEY={key} RUNPOD_POD_ID=any-name-of-its-own",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS=true RUNPOD_SKIP_GPU_CHECK=true",
    ]
