"""What in a request is probably a mistake: keys that nobody knows, and keys in the wrong place."""

from __future__ import annotations

import difflib
from itertools import islice
from typing import TYPE_CHECKING, Any

from emulator.core.policy import EXECUTION_TIMEOUT_MAX_MS, EXECUTION_TIMEOUT_MIN_MS, POLICY_KEYS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

REQUEST_KEYS = frozenset({"input", "policy", "s3Config", "webhook", "webhookV2"})

#: How many unknown keys are looked at, and how long one may be that is a slip of the pen.
_LOOKED_AT_MAX = 20
_LENGTH_MAX = 40
#: What clients call them that were written for other services, and is too far from the right name.
_OTHER_NAMES = {
    "webhook_url": "webhook", "webhookurl": "webhook", "callback": "webhook", "callback_url": "webhook",
    "callbackurl": "webhook", "webhook_uri": "webhook", "s3": "s3Config", "s3_configuration": "s3Config",
    "timeout": "executionTimeout", "execution_timeout_ms": "executionTimeout", "priority": "lowPriority",
    "time_to_live": "ttl",
}  # fmt: skip
#: What stands beside `input`, and does nothing inside it.
_BESIDE_INPUT = frozenset({"webhook", "policy", "s3Config", "executionTimeout", "lowPriority"})


def misspelt_keys(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each key that is nearly one that has a meaning, or whose value is not as documented."""
    policy = fields.get("policy")
    return (
        *_undocumented(policy),
        *_suggestions("", _unknown(fields, REQUEST_KEYS), REQUEST_KEYS | POLICY_KEYS),
        *_suggestions("policy.", _unknown(policy, POLICY_KEYS), POLICY_KEYS),
    )


def odd_keys(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each key that may be meant as it is, and yet does not do what many expect of it."""
    given = fields.get("input")
    beside = len(fields) > 1 and not fields.keys() <= REQUEST_KEYS
    if not isinstance(given, dict) or _BESIDE_INPUT.isdisjoint(given):
        given = {}
    return (*(_handed_on(fields) if beside else ()), *(_inside_input(fields, given) if given else ()))


def _undocumented(policy: Any) -> Iterator[str]:
    timeout_ms = policy.get("executionTimeout") if isinstance(policy, dict) else None
    if timeout_ms == EXECUTION_TIMEOUT_MIN_MS:
        yield f"policy.executionTimeout is {timeout_ms}: production takes it, its documents ask for more"
    elif timeout_ms is not None and timeout_ms > EXECUTION_TIMEOUT_MAX_MS:
        yield (
            f"policy.executionTimeout is {timeout_ms}: production takes it, its documents allow at most"
            f" {EXECUTION_TIMEOUT_MAX_MS} (7 days)"
        )


def _unknown(fields: Any, known: Container[str]) -> Iterator[str]:
    """The keys that have no meaning; of very many the first, as each takes a while to be looked at."""
    keys = fields if isinstance(fields, dict) else ()
    return islice((key for key in keys if key not in known), _LOOKED_AT_MAX)


def _suggestions(prefix: str, unknown: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    by_lower = {key.lower(): key for key in known}
    for key in sorted(unknown):
        if right := _nearest(key, by_lower):
            place = f"policy.{right}" if right in POLICY_KEYS else right
            yield f"{prefix}{key} has no effect: did you mean {place}?"


def _nearest(key: str, by_lower: Mapping[str, str]) -> str | None:
    if len(key) > _LENGTH_MAX:
        return None
    if (right := _OTHER_NAMES.get(key.lower())) in by_lower.values():
        return right
    close = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.8)
    return by_lower[close[0]] if close else None


def _handed_on(fields: Mapping[str, Any]) -> Iterator[str]:
    by_lower = {key.lower(): key for key in REQUEST_KEYS | POLICY_KEYS}
    for key in sorted(_unknown(fields, REQUEST_KEYS)):
        if not _nearest(key, by_lower):
            yield (
                f"{key[:100]} beside input is handed on: the handler finds it as job[{key[:100]!r}];"
                " Runpod's documents of 2023 to 2025 said that such a key is dropped, so put it inside input"
            )


def _inside_input(fields: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(_BESIDE_INPUT & given.keys()):
        place = f"policy.{key}" if key in POLICY_KEYS else key
        if place.partition(".")[0] not in fields:
            yield f"input.{key} is for the handler alone: the endpoint looks for {place} beside input"
