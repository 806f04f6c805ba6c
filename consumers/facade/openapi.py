"""The HTTP API as an OpenAPI 3.1 document, made of the table of routes and the models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter

from consumers.facade.auth import Access
from consumers.facade.routing import ANY, Route
from schemas.api import IDEMPOTENCY_KEY_PATTERN, PROBLEM_TYPE, Problem
from schemas.ids import MACHINE_ID_PATTERN

_KEYED: Final = (
    "A second request with the same key and body is answered as the first one is now, as long as that is kept; with another "
    "body it is refused (422, reason `idempotency_key_reused`)."
)
_SCHEMAS: Final = "#/components/schemas/{model}"
_VARIABLE: Final = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_ALWAYS: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY)

_WHY: Final = {
    HTTPStatus.BAD_REQUEST: "The request is malformed; the answer names the field",
    HTTPStatus.UNAUTHORIZED: "No token, or one that nobody has",
    HTTPStatus.FORBIDDEN: "The token's role does not allow this",
    HTTPStatus.NOT_FOUND: "There is no such machine, pool, command or silence",
    HTTPStatus.CONFLICT: "The power must not be driven now; `reason` says why in a word, `detail` what to do",
    HTTPStatus.PRECONDITION_FAILED: "The machine is not in the version that `If-Match` names: get it again",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not declared as JSON",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field is invalid; `errors` names it",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The database is out of reach",
    HTTPStatus.SERVICE_UNAVAILABLE: "Database or broker is out of reach: try again after `Retry-After`",
}


def openapi(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The document."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in (each for each in routes if not each.alias):
        path = _VARIABLE.sub(r"{\1}", route.path)
        method = "get" if route.method == ANY else route.method.lower()
        paths.setdefault(path, {})[method] = _operation(route, path, schemas)
    schemas.refer(Problem)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Labkeeper",
            "version": version,
            "summary": "The state of every machine of a lab, and what people may do with them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.found,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `labkeeper token new`.",
                },
                "session": {"type": "apiKey", "in": "cookie", "name": "labkeeper_session"},
            },
        },
    }


class _Schemas:
    """Models that were referred to, under one name each."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def refer(self, kind: Any) -> dict[str, Any]:
        """A schema for this type; its models are kept aside."""
        schema = TypeAdapter(kind).json_schema(ref_template=_SCHEMAS, by_alias=True)
        self.found.update(schema.pop("$defs", {}))
        if isinstance(kind, type) and schema.get("type") == "object" and "title" in schema:
            self.found[schema["title"]] = schema
            return {"$ref": _SCHEMAS.format(model=schema["title"])}
        return schema


def _operation(route: Route, path: str, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [route.tag],
        "summary": route.summary,
        "operationId": re.sub(r"\W+", "_", f"{route.method}{path}").strip("_").lower(),
        "responses": _responses(route, schemas),
    }
    if route.access is Access.PUBLIC:
        operation["security"] = []
    else:
        operation["description"] = f"For: {route.access.value}."
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas.refer(route.body)}},
        }
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _variable_schema(name)}
        for name in _VARIABLE.findall(route.path)
    ]
    if route.machine_parameter is not None:
        schema = _variable_schema("id")
        parameters.append(
            {"name": route.machine_parameter, "in": "query", "required": True, "schema": schema}
        )
    if route.query is not None:
        parameters.extend(_query_parameters(route.query))
    if HTTPStatus.PRECONDITION_FAILED in route.errors:
        parameters.append({"name": "If-Match", "in": "header", "schema": {"type": "string"}})
    if route.idempotent:
        schema = {"type": "string", "pattern": IDEMPOTENCY_KEY_PATTERN}
        parameters.append(
            {"name": "Idempotency-Key", "in": "header", "schema": schema, "description": _KEYED}
        )
    if route.stream and route.resumes:
        parameters.append({"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}})
        parameters.append({"name": "last_event_id", "in": "query", "schema": {"type": "string"}})
    return parameters


def _variable_schema(name: str) -> dict[str, Any]:
    return {"type": "string", "pattern": MACHINE_ID_PATTERN} if name == "id" else {"type": "string"}


def _query_parameters(model: Any) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    found = []
    for name, field in schema["properties"].items():
        plain = {key: value for key, value in field.items() if key not in {"title", "description"}}
        parameter = {"name": name, "in": "query", "schema": _inlined(plain, definitions)}
        if "description" in field:
            parameter["description"] = field["description"]
        found.append(parameter)
    return found


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return definitions[schema["$ref"].rsplit("/", 1)[1]]
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    success: dict[str, Any] = {"description": route.status.phrase}
    if route.answer is not None:
        success["content"] = {route.content_type: {"schema": schemas.refer(route.answer)}}
    elif route.stream:
        success["content"] = {route.content_type: {"schema": {"type": "string"}}}
    responses = {str(int(route.status)): success}
    if route.also is not None:
        content = {} if route.also is HTTPStatus.NO_CONTENT else {"content": success["content"]}
        responses[str(int(route.also))] = {"description": route.also.phrase, **content}
    refusals = route.errors if route.access is Access.PUBLIC else (*_ALWAYS, *route.errors)
    for status in sorted(set(refusals)):
        responses[str(int(status))] = {
            "description": _WHY[status],
            "content": {PROBLEM_TYPE: {"schema": {"$ref": _SCHEMAS.format(model="Problem")}}},
        }
    return responses
