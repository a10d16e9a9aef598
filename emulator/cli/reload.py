"""Takes up a handler's code when it is saved."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.clock.real_time import next_round
from emulator.workers.handler import HandlerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.core.endpoint import Endpoint
    from emulator.emulator import Emulator
    from emulator.workers.project import Project

log = logging.getLogger("emulator")

#: An editor's several writes of one save come within this many real ms.
_STEP_MS = 50
#: Real seconds from one look at what an image's name points to, to the next.
_IMAGE_EVERY_S = 2.0


@asynccontextmanager
async def reloading(emulator: Emulator, *, enabled: bool) -> AsyncIterator[None]:
    """While the body runs, reload an endpoint when a file of its project is saved, or its image is built."""
    projects = emulator.projects() if enabled else {}
    images = emulator.images() if enabled else []
    watches = [
        *([_watch(emulator, projects)] if projects else []),
        *(_watch_image(emulator, endpoint_id) for endpoint_id in images),
    ]
    watching = [asyncio.get_running_loop().create_task(watch) for watch in watches]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def _watch_image(emulator: Emulator, endpoint_id: str) -> None:
    told = ""
    while True:
        await next_round(_IMAGE_EVERY_S)
        try:
            if await emulator.reload_image(endpoint_id):
                what = emulator.describe_handler(endpoint_id)
                log.info("%s: its image is another one: workers are now of %s", endpoint_id, what)
            told = ""
        except HandlerError as error:
            if told != str(error):
                told = str(error)
                log.warning("%s: a new image is not looked for: %s", endpoint_id, error)


async def _watch(emulator: Emulator, projects: dict[str, Project]) -> None:
    # Its native part takes a while to load, which the first answer need not wait for.
    watchfiles = await asyncio.to_thread(__import__, "watchfiles")
    folders = {project.folder for project in projects.values()}
    flat = folders & _too_wide()

    def counts(_change: object, path: str) -> bool:
        return any(project.holds(Path(path)) for project in projects.values())

    watches = [
        _follow(emulator, projects, watchfiles.awatch(
            *watched, watch_filter=counts, step=_STEP_MS, recursive=recursive,
            ignore_permission_denied=True,
        ))
        for watched, recursive in ((folders - flat, True), (flat, False))
        if watched
    ]  # fmt: skip
    await asyncio.gather(*watches)


async def _follow(
    emulator: Emulator, projects: dict[str, Project], changes: AsyncIterator[set[tuple[object, str]]]
) -> None:
    try:
        async for change in changes:
            await _take_up(emulator, projects, {Path(path) for _, path in change})
    except OSError as error:
        log.warning("saved code is not taken up: the folder cannot be watched: %s", error)


async def _take_up(emulator: Emulator, projects: dict[str, Project], changed: set[Path]) -> None:
    for endpoint_id, project in projects.items():
        files = {path for path in changed if project.holds(path)}
        if not files:
            continue
        names = ", ".join(sorted(str(path.relative_to(project.folder)) for path in files))
        try:
            is_starting = await emulator.reload(endpoint_id)
        except HandlerError as error:
            log.error(
                "%s: %s changed and was not taken up, %s: %s",
                endpoint_id, names, _who_serves(emulator.endpoint(endpoint_id)), error,
            )  # fmt: skip
        else:
            what = (
                "starting a worker with the new code" if is_starting else "the next worker runs the new code"
            )
            log.info("%s: %s changed: %s", endpoint_id, names, what)


def _who_serves(endpoint: Endpoint) -> str:
    if endpoint.pool.is_up or not endpoint.pool.starts.broken_code:
        return "the old code goes on serving"
    return "no worker is left; jobs wait until it is fixed"


def _too_wide() -> set[Path]:
    """Folders whose every subfolder is too much to watch."""
    return {Path("/"), Path.home(), Path(tempfile.gettempdir()).resolve()}
