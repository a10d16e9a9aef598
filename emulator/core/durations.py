"""Durations as people write them."""

from __future__ import annotations

import re

from emulator.errors import ConfigError

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: str, bare_unit: str) -> int:
    """`500ms`, `2s`, `1.5m`, `1h` or `1d` in ms; a number alone is in `bare_unit`.

    :raises ConfigError: it is not a duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)", text.strip())
    if match is None:
        raise ConfigError(f"{text[:100]!r} is not a duration: write 500ms, 2s, 10m or 1h")
    number, unit = match.groups()
    return round(float(number) * _UNITS_MS[unit or bare_unit])
