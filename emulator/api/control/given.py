"""What a route of the control API is given: routes are made once, for all emulators of a process."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from emulator.api.control.controls import CONTROLS, Controls


async def _controls_of(request: Request) -> Controls:
    controls: Controls = request.scope[CONTROLS]
    return controls


Given = Annotated[Controls, Depends(_controls_of)]
