"""A job as it was asked for: the body of /run and /runsync, checked once and kept as it came."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn
from urllib.parse import urlsplit

from emulator.core.policy import ExecutionPolicy, checked_ttl
from emulator.core.request_hints import misspelt_keys, odd_keys
from emulator.errors import InvalidRequest, MalformedRequest
from emulator.masking import masked_url


class MissingInput(StrEnum):
    """What becomes of a request whose `input` is missing or null (wire.md 2)."""

    #: It is answered 400, as the documents have it.
    REFUSE = "refuse"
    #: It is a job whose input is empty, as in production.
    ACCEPT = "accept"


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
    #: Its input is `{}`, missing or null, which production's worker never receives.
    empty_input: bool = False
    #: The id of the job that it repeats.
    again_of: str | None = None
    #: What is probably a mistake in it, a sentence each.
    warnings: tuple[str, ...] = ()
    #: What may be meant, and yet does not do what many expect; to be said once.
    hints: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls,
        body: bytes,
        defaults: ExecutionPolicy,
        *,
        sync: bool = False,
        ttl: object = None,
        again_of: str | None = None,
        missing_input: MissingInput = MissingInput.REFUSE,
    ) -> JobRequest:
        """Check a request body; `ttl` is the one given on the URL, which `policy.ttl` overrides.

        :raises MalformedRequest: it is not a JSON object in UTF-8.
        :raises InvalidRequest: a field breaks a rule.
        """
        fields = parse_object(body)
        sent = fields.get("input")
        if sent is None and missing_input is MissingInput.REFUSE:
            raise MalformedRequest(
                'bad request: input: missing or null: send a JSON object like {"input": {"prompt": "hi"}}'
                " (production takes it, and runs it as an empty one; so does --missing-input accept)"
            )
        policy = defaults
        if ttl is not None:
            policy = policy.overridden_by({"ttl": checked_ttl("?ttl", ttl)})
        policy = policy.overridden_by(fields.get("policy"))
        return cls(
            body=body,
            policy=policy,
            webhook=checked_webhook(fields.get("webhook")),
            sync=sync,
            empty_input=sent is None or sent == {},
            again_of=again_of,
            warnings=misspelt_keys(fields) if len(fields) > 1 else (),
            hints=odd_keys(fields),
        )

    @classmethod
    def of(
        cls,
        fields: Mapping[str, Any],
        defaults: ExecutionPolicy,
        *,
        sync: bool = False,
        missing_input: MissingInput = MissingInput.REFUSE,
    ) -> JobRequest:
        """The request for a Python mapping like `{"input": {...}, "policy": {...}}`.

        :raises MalformedRequest: it has values JSON cannot express, or no `input`.
        :raises InvalidRequest: a field breaks a rule.
        """
        try:
            body = json.dumps(dict(fields), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise MalformedRequest(f"bad request: body: cannot be written as JSON: {error}") from error
        return cls.parse(body, defaults, sync=sync, missing_input=missing_input)


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


def checked_webhook(webhook: object) -> str | None:
    """A webhook's URL; None for none.

    :raises InvalidRequest: it is no URL that can be called.
    """
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
        # Whoever logs the sentence must not tell the receiver's secret.
        raise InvalidRequest("webhook", masked_url(webhook), rule)
    return webhook
