"""Bodies of the control API are JSON as its standard has it: no `NaN`, no `Infinity`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from fastapi import Request
from fastapi.routing import APIRoute

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import Response


class _StrictRequest(Request):
    async def json(self) -> Any:
        return json.loads(await self.body(), parse_constant=_refuse)


class StrictRoute(APIRoute):
    """Refuses a body with a number that JSON cannot express, as one that is not JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        answer = super().get_route_handler()

        async def answer_strictly(request: Request) -> Response:
            return await answer(_StrictRequest(request.scope, request.receive))

        return answer_strictly


def _refuse(constant: str) -> NoReturn:
    raise json.JSONDecodeError(f"{constant} is no number in JSON", constant, 0)
