"""How large a number may be that comes from outside: beyond that it is a mistake, whatever it is for."""

from __future__ import annotations

#: Ten years: longer than anything that is emulated takes.
TIME_MAX_MS = 10 * 366 * 86_400_000
COUNT_MAX = 1_000_000_000
#: Workers of one endpoint.
WORKERS_MAX = 1_000
#: Workers that join an endpoint by themselves.
STRANGERS_MAX = 10_000
#: MiB of a result: more than fits into memory is a mistake.
RESULT_MIB_MAX = 4_096
#: Endpoints of an emulator, stubs of an endpoint, and rules in force.
ENDPOINTS_MAX = 10_000
STUBS_MAX = 10_000
FAULTS_MAX = 1_000


def shown_number(value: float) -> str:
    """A number, as a message shows it: one of thousands of digits is not written out."""
    return (
        f"{value}" if abs(value) < 10**20 or isinstance(value, float) else "a number of more than 20 digits"
    )
