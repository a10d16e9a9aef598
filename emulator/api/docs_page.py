"""The documentation page: the OpenAPI document as plain HTML, which can be read without network and scripts.
With scripts, calls can be tried (`console/docs.js`).
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

_HEAD = (
    "<link rel='icon' href='/_emulator/ui/icon.svg' type='image/svg+xml'>"
    "<link rel='stylesheet' href='/_emulator/ui/docs.css'>"
    "<script type='module' src='/_emulator/ui/docs.js'></script>"
)
_EXAMPLE_INPUT = {"input": {"prompt": "hello"}}
#: Of the control API: by path, and where they differ by method.
_EXAMPLES: dict[str, Any] = {
    "/clock": {"mode": "frozen"},
    "/clock/advance": {"by_ms": 60_000},
    "/endpoints/{endpoint_id}": {"workers_max": 1, "clock": "frozen"},
    "/endpoints/{endpoint_id}/stubs": {"when": {"input": {"prompt": "hi"}}, "returns": {"text": "ho"}},
    "/endpoints/{endpoint_id}/stubs/{number}": {"times": 2},
    "/jobs/{job_id}/wait": {"timeout_ms": 5_000},
    "/faults": {"match": {"operation": "run"}, "times": 2, "then": {"status": 503}},
    "/journal/find": {"kind": "api", "match": {"status": 429}},
    "/journal/count": {"kind": "api", "match": {"status": 429}},
    "/journal/wait": {"kind": "webhook", "count": 1, "timeout_ms": 5_000},
    "/sinks/{name}/answers": {"answers": [500, 500, 200]},
    "/sinks/{name}/wait": {"count": 3, "timeout_ms": 5_000},
}


def docs_page(document: dict[str, Any], base_url: str, endpoint_id: str) -> str:
    """The page for an OpenAPI document; its examples call `endpoint_id` at `base_url`."""
    by_tag: dict[str, list[str]] = {"endpoint": [], "control": []}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            example_url = base_url + path.replace("{endpoint_id}", endpoint_id).replace("{job_id}", "JOB_ID")
            described = _operation(method.upper(), path, operation, example_url, document)
            by_tag[operation["tags"][0]].append(described)
    title = f"{document['info']['title']} {document['info']['version']}"
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<meta name='viewport' content='width=device-width'>{_HEAD}"
        f"<body data-endpoint='{escape(endpoint_id)}'><main><h1>{escape(title)}</h1>"
        "<p>The document behind this page: <a href='/_emulator/openapi.json'>openapi.json</a>.</p>"
        "<h2>Endpoint</h2><p>As production has them; also at the root, without "
        f"<code>/v2/{{endpoint_id}}</code>, for the endpoint <code>{escape(endpoint_id)}</code>.</p>"
        f"{''.join(by_tag['endpoint'])}"
        f"<h2>Control</h2><p>The emulator's own.</p>{''.join(by_tag['control'])}</main></body></html>"
    )


def _operation(
    method: str, path: str, operation: dict[str, Any], example_url: str, document: dict[str, Any]
) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    text = operation.get("description") or operation.get("summary", "")
    answers = "".join(_answer(code, answer, document) for code, answer in operation["responses"].items())
    example = None if body is None else json.dumps(_example(path))
    return (
        f"<details data-method='{method}' data-path='{escape(path)}' data-example='{escape(example or '')}'>"
        f"<summary><code>{method} {escape(path)}</code> {escape(text)}</summary>"
        f"<pre>{escape(_curl(method, example_url, operation, example))}</pre>"
        f"{_parameters(operation.get('parameters', []))}"
        f"{'' if body is None else _schema('Body', body, document)}"
        f"{answers}</details>"
    )


def _example(path: str) -> Any:
    return _EXAMPLES.get(path.removeprefix("/_emulator"), _EXAMPLE_INPUT)


def _curl(method: str, url: str, operation: dict[str, Any], example: str | None) -> str:
    parts = ["curl", *(["-X", method] if method != "GET" else []), url]
    if operation.get("security"):
        parts.append("-H 'Authorization: Bearer KEY'")
    if example is not None:
        parts.append(f"-d '{example}'")
    return " ".join(parts)


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr data-name='{escape(parameter['name'])}' data-in='{escape(parameter['in'])}'>"
        f"<td><code>{escape(parameter['name'])}</code></td><td>in the {escape(parameter['in'])}</td>"
        f"<td><code>{escape(json.dumps(parameter['schema']))}</code></td></tr>"
        for parameter in parameters
    )
    return f"<table>{rows}</table>" if rows else ""


def _answer(code: str, answer: dict[str, Any], document: dict[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    title = f"{code} {answer['description']}"
    return f"<p>{escape(title)}</p>" if schema is None else _schema(title, schema, document)


def _schema(title: str, schema: dict[str, Any], document: dict[str, Any]) -> str:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    shown = escape(json.dumps(schema, indent=2))
    return f"<details><summary>{escape(title)}</summary><pre>{shown}</pre></details>"
