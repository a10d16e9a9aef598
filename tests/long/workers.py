"""Handlers that take long behind every kind of worker, and an emulator on a real clock."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from anyio.from_thread import start_blocking_portal

from emulator import Emulator, EndpointConfig
from tests.limits import PATIENCE_S
from tests.workers.kinds import KEY, external_worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HERE = Path(__file__).parent
KINDS = ["inline", "function", "script", "external"]
#: What a handler is like, with the module and function that is so.
FORMS = {
    "sync": ("long_handlers", "sync"),
    "async": ("long_handlers", "asynchronous"),
    "generator": ("long_handlers", "generator"),
    "progress": ("long_progress", "handler"),
}
_SCRIPT = """\
import runpod
import {module}
if __name__ == "__main__":
    runpod.serverless.start({{"handler": {module}.{function}}})
"""


@contextmanager
def emulated(endpoints: dict[str, EndpointConfig | None]) -> Iterator[httpx.Client]:
    """A client of an emulator whose time is real; any number of its calls may wait at once."""
    emulator = Emulator(endpoints, rate_limits=False)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(emulator),
        portal.wrap_async_context_manager(emulator.serve()) as url,
        httpx.Client(
            base_url=url,
            headers=KEY,
            trust_env=False,
            timeout=PATIENCE_S,
            limits=httpx.Limits(max_connections=None),
        ) as http,
    ):
        yield http


@contextmanager
def long_workers(
    folder: Path, kinds: Iterable[str] = KINDS, forms: Iterable[str] = FORMS, *, workers: int = 1
) -> Iterator[httpx.Client]:
    """An endpoint for each form behind each kind of worker, e.g. `script-sync`, with so many workers."""
    for module in {module for module, _ in FORMS.values()}:
        shutil.copy(HERE / f"{module}.py", folder)
    endpoints: dict[str, EndpointConfig | None] = {}
    for form in forms:
        module, function = FORMS[form]
        (folder / f"{form}.py").write_text(_SCRIPT.format(module=module, function=function))
        for kind in kinds:
            name = f"{module}.py:{function}" if kind == "function" else f"{form}.py"
            endpoints[f"{kind}-{form}"] = EndpointConfig(
                handler=f"{folder}/{name}",
                worker_kind={"function": "process", "script": "process"}.get(kind, kind),
                workers_min=0 if kind == "external" else workers,
                workers_max=workers,
                idle_timeout_s=3600,
            )
    with emulated(endpoints) as http, ExitStack() as ended:
        for endpoint_id in endpoints:
            kind, form = endpoint_id.split("-")
            for number in range(workers if kind == "external" else 0):
                ended.enter_context(
                    external_worker(
                        str(http.base_url).rstrip("/"), endpoint_id, folder / f"{form}.py", f"{form}-{number}"
                    )
                )
        yield http
