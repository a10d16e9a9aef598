"""A job as it was asked for: the body of /run and /runsync, checked once and kept as it came."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from emulator.core.policy import POLICY_KEYS, ExecutionPolicy, checked_ttl
from emulator.errors import InvalidRequest, MalformedRequest

REQUEST_KEYS = frozenset({"input", "policy", "s3Config", "webhook", "webhookV2"})


@dataclass(slots=True, kw_only=True)
class JobRequest:
    """One submission, already known to be acceptable (wire.md 2)."""

    #: The JSON object as the client sent it, UTF-8: what the worker gets, untouched.
    body: bytes
    #: The policy in force: the request's over the endpoint's.
    policy: ExecutionPolicy
    #: Where to report the end of the job.
    webhook: str | None = None
    #: Submitted by /runsync: other id, shorter retention.
    sync: bool = False
    #: `{"input": {}}`, which production's worker never receives.
    empty_input: bool = False
    #: What is probably a mistake in it, a sentence each.
    warnings: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls, body: bytes, defaults: ExecutionPolicy, *, sync: bool = False, ttl: object = None
    ) -> JobRequest:
        """Check a request body; `ttl` is the one given on the URL, which `policy.ttl` overrides.

        :raises MalformedRequest: it is not a JSON object in UTF-8.
        :raises InvalidRequest: a field breaks a rule.
        """
        fields = parse_object(body)
        if fields.get("input") is None:
            raise MalformedRequest(
                'bad request: input: missing or null: send a JSON object like {"input": {"prompt": "hi"}}'
            )
        policy = defaults
        if ttl is not None:
            policy = policy.overridden_by({"ttl": checked_ttl("?ttl", ttl)})
        policy = policy.overridden_by(fields.get("policy"))
        return cls(
            body=body,
            policy=policy,
            webhook=_checked_webhook(fields.get("webhook")),
            sync=sync,
            empty_input=fields["input"] == {},
            warnings=_misspelt_keys(fields) if len(fields) > 1 else (),
        )

    @classmethod
    def of(cls, fields: Mapping[str, Any], defaults: ExecutionPolicy, *, sync: bool = False) -> JobRequest:
        """The request for a Python mapping like `{"input": {...}, "policy": {...}}`.

        :raises MalformedRequest: it has values JSON cannot express, or no `input`.
        :raises InvalidRequest: a field breaks a rule.
        """
        try:
            body = json.dumps(dict(fields), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise MalformedRequest(f"bad request: body: cannot be written as JSON: {error}") from error
        return cls.parse(body, defaults, sync=sync)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is.

    :raises MalformedRequest: it is none, or not UTF-8.
    """
    try:
        fields = _decoder.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MalformedRequest(
            f"bad request: body: not UTF-8: {error.reason} at byte {error.start}"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MalformedRequest(f"bad request: body: not valid JSON: {reason}") from error
    if not isinstance(fields, dict):
        kind = "null" if fields is None else type(fields).__name__
        raise MalformedRequest(f'bad request: body: must be a JSON object like {{"input": …}}, not {kind}')
    return fields


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is beyond what a number can hold")
    return value


#: json.loads would make a new one for every request.
_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _checked_webhook(webhook: object) -> str | None:
    if webhook is None or webhook == "":
        return None
    rule = "must be a URL like https://example.com/hook (http or https)"
    if not isinstance(webhook, str):
        raise InvalidRequest("webhook", webhook, rule)
    try:
        url = urlsplit(webhook)
        acceptable = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        acceptable = False
    if not acceptable or not webhook.isprintable() or " " in webhook:
        raise InvalidRequest("webhook", webhook, rule)
    return webhook


def _misspelt_keys(fields: Mapping[str, Any]) -> tuple[str, ...]:
    policy = fields.get("policy")
    return (
        *_suggestions("", fields.keys() - REQUEST_KEYS, REQUEST_KEYS | POLICY_KEYS),
        *_suggestions(
            "policy.", policy.keys() - POLICY_KEYS if isinstance(policy, dict) else (), POLICY_KEYS
        ),
    )


def _suggestions(prefix: str, unknown: Iterable[str], known: Iterable[str]) -> Iterable[str]:
    by_lower = {key.lower(): key for key in known}
    for key in sorted(unknown):
        if close := difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.8):
            right = by_lower[close[0]]
            place = f"policy.{right}" if right in POLICY_KEYS else right
            yield f"{prefix}{key} has no effect: did you mean {place}?"
