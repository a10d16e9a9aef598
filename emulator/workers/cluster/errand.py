"""What is sent to a node: the folder with the handler, and how a worker is started there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.workers.loading import parts_of

if TYPE_CHECKING:
    from emulator.core.config import EndpointConfig
    from emulator.workers.command import Kind, WorkerCommand


@dataclass(slots=True, frozen=True, kw_only=True)
class Errand:
    """How an endpoint's workers are started on a node, which has none of this machine's files."""

    kind: Kind
    #: A script and its arguments, a function and its, or the words of a command.
    words: tuple[str, ...]
    #: The folder of this machine that goes with it; it is where workers run.
    folder: Path

    @classmethod
    def of(cls, config: EndpointConfig, command: WorkerCommand) -> Errand:
        """What corresponds to the command of an endpoint's processes on this machine."""
        folder = command.folder
        if command.kind == "command":
            return cls(kind="command", words=(*config.command, *config.worker_args), folder=folder)
        place, function = parts_of(config.handler)
        if place.endswith(".py"):
            # Not resolved: what it is a link to need not be in the folder.
            file, root = Path(os.path.abspath(folder / place)), Path(os.path.abspath(folder))
            if not file.is_relative_to(root):
                # Of a handler that is somewhere else, its own folder is what it imports from.
                root = file.parent
            folder, place = root, str(file.relative_to(root))
        word = f"{place}:{function}" if function else place
        return cls(kind=command.kind, words=(word, *config.worker_args), folder=folder)
