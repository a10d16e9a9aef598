"""The calls of the journal as an HTTP archive (HAR 1.2), which browsers' developer tools open."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from emulator.api.call_entry import CallEntry
from emulator.api.control.replies import list_of, object_of
from emulator.api.errors import phrase
from emulator.clock.slices import in_slices
from emulator.core.json_text import encode
from emulator.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emulator.history.journal import Entry


async def har(entries: Iterable[Entry]) -> bytes:
    """An archive of those entries that are calls, as JSON text."""
    calls = [encode(_call(entry)) async for entry in in_slices(entries) if isinstance(entry, CallEntry)]
    about = {"version": "1.2", "creator": {"name": "runpod-emulator", "version": __version__}}
    return object_of({}, log=object_of(about, entries=list_of(calls)))


def _call(entry: CallEntry) -> dict[str, Any]:
    details = entry.details()
    request, response = details["request"], details["response"]
    host = request["headers"].get("host", "emulator")
    query = details["query"]
    sent = _text(request["body"])
    got = _text(response["body"])
    status = details["status"] or 0
    return {
        "startedDateTime": datetime.fromtimestamp(entry.at_ms / 1000, UTC).isoformat(),
        "time": details["duration_ms"],
        "request": {
            "method": details["method"],
            "url": f"http://{host}{details['path']}" + (f"?{urlencode(query)}" if query else ""),
            "httpVersion": "HTTP/1.1",
            "cookies": [],
            "headers": _pairs(request["headers"]),
            "queryString": _pairs(query),
            "headersSize": -1,
            "bodySize": request["size"] if "size" in request else len(sent),
            **({"postData": {"mimeType": "application/json", "text": sent}} if sent else {}),
        },
        "response": {
            "status": status,
            "statusText": phrase(status) if status else "",
            "httpVersion": "HTTP/1.1",
            "cookies": [],
            "headers": _pairs(response["headers"]),
            "content": {"size": response["size"], "mimeType": "application/json", "text": got},
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": response["size"],
        },
        "cache": {},
        "timings": {"send": 0, "wait": details["duration_ms"], "receive": 0},
        "comment": f"fault {entry.fault_id}" if entry.fault_id else "",
    }


def _pairs(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
