"""What a job's error says to a person."""

from __future__ import annotations

import json
import re


def explained(error: str) -> tuple[str, str]:
    """A job's error in one line, and its traceback; empty when there is none.

    What a handler raised is JSON text with its type, message and traceback (wire.md 3).
    """
    try:
        fields = json.loads(error)
        kind, message = str(fields["error_type"]), str(fields["error_message"])
        traceback = str(fields["error_traceback"]).rstrip()
    except (ValueError, KeyError, TypeError, RecursionError):
        # A streaming handler's: "handler: <message> \ntraceback: <traceback>".
        text, _, traceback = error.partition("\ntraceback: ")
        return text.removeprefix("handler: ").strip() if traceback else text, traceback.rstrip()
    named = re.fullmatch(r"<class '(?:builtins\.)?(.+)'>", kind)
    name = (named[1] if named else kind).removeprefix("__main__.")
    first_line, _, more = message.strip().partition("\n")
    return (f"{name}: {first_line}{' …' if more else ''}" if first_line else name), traceback
