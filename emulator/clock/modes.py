"""The ways in which time may run, as they are written: `real`, `frozen`, `auto`, `scaled:N`."""

from __future__ import annotations

from emulator.errors import ClockError

#: Emulated ms to the real one: from a second in a quarter of an hour to eleven days in a second.
RATE_MIN = 0.001
RATE_MAX = 1_000_000


def parse_mode(mode: str) -> tuple[float, bool]:
    """The rate for `real`, `frozen`, `auto` or `scaled:N`, and whether it is auto.

    :raises ClockError: it is none of these.
    """
    plain = {"real": (1.0, False), "frozen": (0.0, False), "auto": (1.0, True)}
    if mode in plain:
        return plain[mode]
    kind, _, factor = mode.partition(":")
    try:
        rate = float(factor) if kind == "scaled" else 0.0
    except ValueError:
        rate = 0.0
    if RATE_MIN <= rate <= RATE_MAX:
        return rate, False
    raise ClockError(
        f"clock is {mode[:100]!r}: it must be real, frozen, auto or scaled:N, e.g. scaled:60 for a minute a"
        f" second; N is from {RATE_MIN:g} to {RATE_MAX}"
    )
