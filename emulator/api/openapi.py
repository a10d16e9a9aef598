"""The endpoint operations in the OpenAPI document: they are served before FastAPI could describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from emulator.api import wire
from emulator.api.exchange import WAIT_MAX_MS, WAIT_MIN_MS
from emulator.api.operations import (
    OPERATIONS,
    REQUESTS_PER_PAGE,
    REQUESTS_PER_PAGE_MAX,
    RUNSYNC_WAIT_MS,
    STREAM_WAIT_MS,
)
from emulator.core.job import JobStatus
from emulator.core.policy import TTL_MAX_MS, TTL_MIN_MS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

_ANSWERS: Mapping[str, type[BaseModel]] = {
    "run": wire.JobState,
    "runsync": wire.JobBody,
    "status": wire.JobBody,
    "status-sync": wire.JobBody,
    "stream": wire.StreamBody,
    "cancel": wire.JobState,
    "retry": wire.JobState,
    "purge-queue": wire.Purged,
    "health": wire.EndpointHealth,
    "metrics": wire.WorkerMetrics,
    "requests": wire.Requests,
}
_BODIES: Mapping[str, type[BaseModel]] = {"run": wire.RunRequest, "runsync": wire.RunRequest}
_REF = "#/components/schemas/{model}"


def _query(name: str, lowest: int, highest: int, default: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer", "minimum": lowest, "maximum": highest}
    if default is not None:
        schema["default"] = default
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


_TTL = _query("ttl", TTL_MIN_MS, TTL_MAX_MS)
_PARAMETERS: Mapping[str, list[dict[str, Any]]] = {
    "run": [_TTL],
    "runsync": [_query("wait", WAIT_MIN_MS, WAIT_MAX_MS, RUNSYNC_WAIT_MS), _TTL],
    "status-sync": [_query("wait", WAIT_MIN_MS, WAIT_MAX_MS, RUNSYNC_WAIT_MS)],
    "stream": [_query("wait", WAIT_MIN_MS, WAIT_MAX_MS, STREAM_WAIT_MS)],
    "requests": [
        _query("offset", 0, 10**9, 0),
        _query("limit", 1, REQUESTS_PER_PAGE_MAX, REQUESTS_PER_PAGE),
        {"name": "status", "in": "query", "required": False, "schema": {"enum": list(JobStatus)}},
    ],
}


def describe_operations(document: dict[str, Any]) -> dict[str, Any]:
    """The document with every endpoint operation added."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(_schemas())
    components["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer"}}
    for name, operation in OPERATIONS.items():
        path = f"/v2/{{endpoint_id}}/{name}" + "/{job_id}" * operation.names_job
        describe = _describe
        if operation.any_path:
            path, describe = path + "/{path}", _describe_openai
        document["paths"][path] = {method.lower(): describe(name, method) for method in operation.methods}
    return document


def _schemas() -> dict[str, Any]:
    models: list[type[BaseModel]] = [*_ANSWERS.values(), *_BODIES.values(), wire.Error, wire.OpenAIError]
    _, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], ref_template=_REF
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _describe(name: str, method: str) -> dict[str, Any]:
    operation = OPERATIONS[name]
    path_parameters = ["endpoint_id", "job_id"] if operation.names_job else ["endpoint_id"]
    described: dict[str, Any] = {
        "tags": ["endpoint"],
        "summary": (operation.answer.__doc__ or "").strip().rstrip("."),
        "operationId": f"{method.lower()}_{name.replace('-', '_')}",
        "security": [{"apiKey": []}],
        "parameters": [
            *(_in_path(parameter) for parameter in path_parameters),
            *_PARAMETERS.get(name, []),
        ],
        "responses": {
            "200": {"description": "Done", "content": _json(_ANSWERS[name])},
            **{
                code: {"description": meaning, "content": _json(wire.Error)}
                for code, meaning in _error_codes(name).items()
            },
        },
    }
    if name in _BODIES:
        described["requestBody"] = {"required": True, "content": _json(_BODIES[name])}
    return described


def _describe_openai(name: str, method: str) -> dict[str, Any]:
    """The OpenAI routes: what they take and give is their worker's; all errors have OpenAI's form."""
    errors = {
        "400": "The body is not a JSON object, or the worker refuses it",
        "401": "No API key, or one that does not pass",
        "404": "No such endpoint, or the worker has no such model or route",
        "408": "The job's ttl ran out",
        "429": "Over the rate limit; Retry-After says for how long",
        "500": "The job failed",
        "503": "No worker took the job in time",
    }
    anything: dict[str, Any] = {"application/json": {"schema": {}}}
    described: dict[str, Any] = {
        "tags": ["endpoint"],
        "summary": "Have a worker answer a call of an OpenAI client",
        "operationId": f"{method.lower()}_{name}",
        "security": [{"apiKey": []}],
        "parameters": [_in_path("endpoint_id"), _in_path("path")],
        "responses": {
            "200": {
                "description": "The worker's answer; with `stream`, server-sent events",
                "content": {**anything, "text/event-stream": {}},
            },
            **{
                code: {"description": told, "content": _json(wire.OpenAIError)}
                for code, told in errors.items()
            },
        },
    }
    if method == "POST":
        schema = {"type": "object", "properties": {"stream": {"type": "boolean"}}}
        described["requestBody"] = {"required": False, "content": {"application/json": {"schema": schema}}}
    return described


def _error_codes(name: str) -> dict[str, str]:
    codes = {"401": "No API key, or one that does not pass", "404": "No such endpoint or job"}
    if name in _BODIES or name in _PARAMETERS or name == "retry":
        codes["400"] = "A field breaks a rule; the body says which"
    if OPERATIONS[name].limit is not None:
        codes["429"] = "Over the rate limit; Retry-After says for how long"
    return dict(sorted(codes.items()))


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
