"""What a job may ask of its execution: how long it may run and live, and whether it may start workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

from emulator.core.bounds import TIME_MAX_MS
from emulator.errors import InvalidRequest

#: wire.md 2: production takes 5 s and enforces no maximum; its documents ask for more, and at most 7 days.
EXECUTION_TIMEOUT_MIN_MS = 5_000
EXECUTION_TIMEOUT_MAX_MS = 604_800_000
#: wire.md 2: 10 s to 7 days.
TTL_MIN_MS = 10_000
TTL_MAX_MS = 604_800_000
TTL_DEFAULT_MS = 86_400_000

POLICY_KEYS = frozenset({"executionTimeout", "lowPriority", "ttl"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionPolicy:
    """The policy in force for a job: its own values over the endpoint's (wire.md 2)."""

    #: How long the handler may hold the job.
    execution_timeout_ms: int
    #: How long the job may exist, queueing and running together, from its submission.
    ttl_ms: int = TTL_DEFAULT_MS
    #: Such a job never makes the scaler start a worker.
    low_priority: bool = False

    def overridden_by(self, policy: object) -> ExecutionPolicy:
        """This policy with the values of a request's `policy` object.

        :raises InvalidRequest: it is not an object, or a value is of the wrong type or out of bounds.
        """
        if policy is None:
            return self
        if not isinstance(policy, Mapping):
            raise InvalidRequest("policy", policy, 'is not an object like {"ttl": 60000}')
        changed = self
        if (timeout := policy.get("executionTimeout")) is not None:
            changed = replace(changed, execution_timeout_ms=checked_execution_timeout(timeout))
        if (ttl := policy.get("ttl")) is not None:
            changed = replace(changed, ttl_ms=checked_ttl("policy.ttl", ttl))
        if (low := policy.get("lowPriority")) is not None:
            if not isinstance(low, bool):
                raise InvalidRequest("policy.lowPriority", low, "must be true or false")
            changed = replace(changed, low_priority=low)
        return changed


def checked_execution_timeout(value: object) -> int:
    """`value` if production takes it for a `policy.executionTimeout` in ms.

    :raises InvalidRequest: it does not.
    """
    if not _is_int(value) or not EXECUTION_TIMEOUT_MIN_MS <= value <= TIME_MAX_MS:
        rule = (
            f"must be an integer of milliseconds, at least {EXECUTION_TIMEOUT_MIN_MS}"
            f" and at most {EXECUTION_TIMEOUT_MAX_MS}"
        )
        raise InvalidRequest("policy.executionTimeout", value, rule)
    return value


def checked_ttl(field: str, value: object) -> int:
    """`value` if it is a legal ttl in ms; `field` is where it stood.

    :raises InvalidRequest: it is not.
    """
    if not _is_int(value) or not TTL_MIN_MS <= value <= TTL_MAX_MS:
        raise InvalidRequest(
            field, value, f"must be an integer of milliseconds from {TTL_MIN_MS} to {TTL_MAX_MS}"
        )
    return value


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
