"""The ways in which time may run, as they are written: `real`, `frozen`, `auto`, `scaled:N`."""

from __future__ import annotations

import math

from emulator.errors import ClockError


def parse_mode(mode: str) -> tuple[float, bool]:
    """The rate for `real`, `frozen`, `auto` or `scaled:N`, and whether it is auto.

    :raises ClockError: it is none of these.
    """
    plain = {"real": (1.0, False), "frozen": (0.0, False), "auto": (1.0, True)}
    if mode in plain:
        return plain[mode]
    kind, _, factor = mode.partition(":")
    try:
        if kind == "scaled" and 0 < float(factor) < math.inf:
            return float(factor), False
    except ValueError:
        pass
    raise ClockError(
        f"clock is {mode!r}: it must be real, frozen, auto or scaled:N, e.g. scaled:60 for a minute a second"
    )
