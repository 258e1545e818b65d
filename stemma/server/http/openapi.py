"""The OpenAPI document, made from the table of endpoints and the types of their bodies."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from stemma.server.http.dialect import Dialect
from stemma.server.http.endpoint import Endpoint
from stemma.server.http.errors import ApiError
from stemma.version import VERSION

Schema = dict[str, Any]

JSON = "application/json"
PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
ERRORS = {
    "400": "A field is wrong or not supported; the message says which one, and what to do",
    "401": "No valid API key",
    "403": "Not with this API key",
    "404": "No such thing",
    "413": "The body is too long",
    "429": "Too many requests; see Retry-After",
    "503": "Not now; see Retry-After",
}
UPLOAD: Schema = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}, "purpose": {"type": "string"}},
    "required": ["file", "purpose"],
}
NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def openapi_document(endpoints: Sequence[Endpoint]) -> Schema:
    """OpenAPI 3.1. Of rows of one path, the one that asks for no header."""
    endpoints = [row for row in endpoints if row.header is None]
    kinds = [row.body for row in endpoints if row.body not in (None, bytes)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    bodies = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Schema] = {}
    for row in endpoints:
        operation = _operation(row, bodies.get(row.body) if row.body is not None else None)
        paths.setdefault(PARAMETER.sub(r"{\1}", row.path), {})[row.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stemma", "version": VERSION},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(row: Endpoint, body: Schema | None) -> Schema:
    error = {"content": {JSON: {"schema": _error(row.dialect)}}}
    errors = {status: {"description": text, **error} for status, text in ERRORS.items()}
    operation: Schema = {
        "summary": row.summary,
        "description": inspect.getdoc(row.handler) or row.summary,
        "operationId": re.sub(r"\W+", "_", f"{row.method.lower()}{row.path}").strip("_"),
        "responses": {"200": _answer(row), **errors},
    }
    if parameters := _in_path(row) + _in_query(row):
        operation["parameters"] = parameters
    if row.body is bytes:
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": UPLOAD}}}
    elif body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    if not row.is_open:
        operation["security"] = [{"key": []}, {}]
    return operation


def _in_path(row: Endpoint) -> list[Schema]:
    names = PARAMETER.findall(row.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _in_query(row: Endpoint) -> list[Schema]:
    if row.query is None:
        return []
    _, components = msgspec.json.schema_components([row.query])
    properties = components[row.query.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in properties.items()]


def _answer(row: Endpoint) -> Schema:
    """Whole; and as a stream too, where the request may ask for one."""
    content: Schema = {row.media_type: {"schema": {"type": "object"} if row.media_type == JSON else {"type": "string"}}}
    asked = (row.body, row.query)
    if any("stream" in getattr(kind, "__struct_fields__", ()) for kind in asked):
        content[row.dialect.form.media_type] = {"schema": {"type": "string"}}
        return {"description": "The answer, or with `stream` a stream of it", "content": content}
    return {"description": "The answer", "content": content}


def _error(dialect: Dialect) -> Schema:
    """What an error looks like, by two of them: what is null in one is of the other's type."""
    plain = ApiError(400, "message")
    return _like(dialect.error(ApiError(400, "message", param="param", code="code")), dialect.error(plain))


def _like(value: Any, other: Any) -> Schema:
    """A schema of which both are examples."""
    if isinstance(value, dict):
        properties = {name: _like(inner, other[name]) for name, inner in value.items() if name in other}
        return {"type": "object", "properties": properties, "required": list(properties)}
    kinds = sorted({NAMES[type(value)], NAMES[type(other)]})
    return {"type": kinds if len(kinds) > 1 else kinds[0]}
