"""Options of the commands that run one worker until they have what they asked of it: `invoke` and `test`."""

from __future__ import annotations

from typing import Annotated

import typer

Command = Annotated[
    str | None,
    typer.Option(
        "--command",
        metavar="COMMAND",
        help="What to run in place of a handler, as for serve: 'python -m app.handler'.",
    ),
]
Module = Annotated[
    str | None,
    typer.Option("-m", "--module", metavar="MODULE", help="The same as --command 'python -m MODULE'."),
]
Image = Annotated[
    str | None,
    typer.Option(
        "--image",
        metavar="IMAGE",
        help="The image you deploy, in place of a handler: its container runs it, as for serve.",
    ),
]
GPUs = Annotated[
    str, typer.Option("--gpus", metavar="all|N|IDS", help="The GPUs that the image's container sees.")
]
Volumes = Annotated[
    list[str] | None,
    typer.Option(
        "--volume",
        metavar="FOLDER[:PATH]",
        help="A folder that the container sees as /runpod-volume, or at PATH; may be repeated.",
    ),
]
