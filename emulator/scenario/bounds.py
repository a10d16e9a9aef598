"""How large a number may be that comes from outside: beyond that it is a mistake, whatever it is for."""

from __future__ import annotations

#: Ten years: longer than anything that is emulated takes.
TIME_MAX_MS = 10 * 366 * 86_400_000
COUNT_MAX = 1_000_000_000
