"""What is secret, and how it is shown: the one place that knows.

Whatever is kept or told of what somebody sent goes through here first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

MASK = "***"
#: Of bodies: what `s3Config` is opened with (wire.md 2).
_SECRET_KEYS = frozenset({"accessId", "accessSecret"})
#: Of bodies: what is a webhook's URL, whose user, password and query may be a receiver's secret.
_URL_KEYS = frozenset({"webhook", "webhookV2"})
#: Of headers and queries: what sounds like one.
_SECRET_NAME = re.compile(
    r"auth|cookie|token|secret|password|passwd|credential|signature|session|api[-_]?key|access[-_]?key"
    r"|^(key|sig|pass|pwd|x-amz-.*)$",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_URL = re.compile(r"(https?://)([^\s\"'<>\\]+)", re.IGNORECASE)


def masked_url(url: str) -> str:
    """A URL without user, password and query."""
    if not any(mark in url for mark in "@?#"):
        return url
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        user = f"{MASK}@" if "@" in parts.netloc else ""
        return urlunsplit((parts.scheme, user + place, parts.path, MASK if parts.query else "", ""))
    except ValueError:
        return MASK


def masked_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as text, those that sound secret masked."""
    shown = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    return {name: MASK if _SECRET_NAME.search(name) else value for name, value in shown.items()}


def masked_query(query: bytes) -> dict[str, str]:
    """The parameters of a URL, those that sound secret masked."""
    pairs = parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: MASK if _SECRET_NAME.search(name) else value for name, value in pairs}


def masked_value(value: Any) -> Any:
    """A JSON value without the secrets of jobs."""
    if isinstance(value, dict):
        return {
            key: MASK
            if key in _SECRET_KEYS
            else masked_url(each)
            if key in _URL_KEYS and isinstance(each, str)
            else masked_value(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [masked_value(each) for each in value]
    return value


def masked_body(body: bytes) -> Any:
    """A whole body as a value, or as text when it is no JSON."""
    try:
        return masked_value(json.loads(body))
    except (ValueError, RecursionError):
        return masked_text(body)


def masked_text(body: bytes) -> str:
    """A body that cannot be parsed, or part of one: with a job's secret in it nothing of it is shown."""
    text = body.decode("utf-8", "replace")
    # A key may be written with escapes; what is behind them is what a parser would have found.
    plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text).replace("\\/", "/")
    if any(key in plain for key in _SECRET_KEYS):
        return MASK
    if plain != text and _URL.search(plain):
        text = plain
    return _URL.sub(lambda match: masked_url(match[0]), text)


def without(text: str, secrets: Iterable[str]) -> str:
    """A text in which these secrets, word for word, are masked."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    return text
