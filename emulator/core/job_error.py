"""What a job's error says to a person."""

from __future__ import annotations

import json
import re
from typing import Any

#: wire.md 7: what the SDK calls it when a worker's own start fails.
_PRESTART_FAILED = "prestart_failed"


def init_failure(error: str | None) -> str:
    """What a job's error says of its worker, whose prestart hooks have failed (wire.md 7); empty for any
    other error.
    """
    return explained(error)[0] if error and _PRESTART_FAILED in error and _is_init_failure(error) else ""


def _is_init_failure(error: str) -> bool:
    try:
        fields = json.loads(error)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.get("event") == _PRESTART_FAILED


def _logs_of(fields: dict[str, Any]) -> str:
    """What the worker has captured of its own log, below a traceback."""
    logs = fields.get("logs")
    lines = logs if isinstance(logs, list) else [logs] if logs else []
    return "".join(f"\nlog: {line}" for line in lines)


def explained(error: str) -> tuple[str, str]:
    """A job's error in one line, and its traceback; empty when there is none.

    What a handler raised is JSON text with its type, message and traceback (wire.md 3).
    """
    try:
        fields = json.loads(error)
        kind, message = str(fields["error_type"]), str(fields["error_message"])
        traceback = str(fields["error_traceback"]).rstrip() + _logs_of(fields)
    except (ValueError, KeyError, TypeError, RecursionError):
        # A streaming handler's: "handler: <message> \ntraceback: <traceback>".
        text, _, traceback = error.partition("\ntraceback: ")
        return text.removeprefix("handler: ").strip() if traceback else text, traceback.rstrip()
    named = re.fullmatch(r"<class '(?:builtins\.)?(.+)'>", kind)
    name = (named[1] if named else kind).removeprefix("__main__.")
    first_line, _, more = message.strip().partition("\n")
    if fields.get("event") == _PRESTART_FAILED:
        hook = f" in the hook {fields['hook']}" if fields.get("hook") else ""
        name = f"init failed{hook}: {name}"
    return (f"{name}: {first_line}{' …' if more else ''}" if first_line else name), traceback
