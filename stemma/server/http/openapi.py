"""The OpenAPI document, made from the table of endpoints and the types of their bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from stemma.server.http.endpoint import Endpoint
from stemma.version import VERSION

PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
STATUSES = {
    "200": "The answer, or with `stream` a stream of server-sent events",
    "400": "A field is wrong or not supported; `param` names it",
    "401": "No valid API key",
    "403": "Not with this API key",
    "404": "No such thing",
    "409": "Not as it stands",
    "413": "The body is too long",
    "429": "Too many requests; see Retry-After",
    "503": "Not now; see Retry-After",
}

UPLOAD = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}, "purpose": {"type": "string"}},
    "required": ["file", "purpose"],
}


def openapi_document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """OpenAPI 3.1. Of rows of one path, the one that asks for no header."""
    endpoints = [row for row in endpoints if row.header is None]
    kinds = [row.body for row in endpoints if row.body not in (None, bytes)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    bodies = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in endpoints:
        operation = _operation(row, bodies.get(row.body) if row.body is not None else None)
        paths.setdefault(PARAMETER.sub(r"{\1}", row.path), {})[row.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stemma", "version": VERSION},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(row: Endpoint, body: dict[str, Any] | None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": row.summary,
        "operationId": re.sub(r"\W+", "_", f"{row.method.lower()}{row.path}").strip("_"),
        "responses": {status: {"description": text} for status, text in STATUSES.items()},
    }
    if names := PARAMETER.findall(row.path):
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if row.body is bytes:
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": UPLOAD}}}
    elif body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if not row.is_open:
        operation["security"] = [{"key": []}, {}]
    return operation
