"""The server as an ASGI application: the endpoints of all rooms, of which routes and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stemma.runtime.engine import Engine
from stemma.server.anthropic.endpoints import ENDPOINTS as ANTHROPIC
from stemma.server.anthropic.errors import ANTHROPIC as ANTHROPICS
from stemma.server.anthropic.errors import VERSION_HEADER
from stemma.server.batches.endpoints import ANSWERED, batch_endpoints
from stemma.server.batches.runner import BatchRunner
from stemma.server.cache.endpoints import cache_endpoints
from stemma.server.config import ServerConfig
from stemma.server.generation.service import Service
from stemma.server.http.decoding import learn_types
from stemma.server.http.dialect import OPENAI as OPENAIS
from stemma.server.http.dialect import Dialect
from stemma.server.http.endpoint import Endpoint, EndpointApp, RequestContext, request_id
from stemma.server.http.errors import ApiError
from stemma.server.http.openapi import openapi_document
from stemma.server.http.replies import json_reply
from stemma.server.ollama.endpoints import ENDPOINTS as OLLAMA
from stemma.server.ollama.endpoints import OLLAMA as OLLAMAS
from stemma.server.openai.endpoints import ENDPOINTS as OPENAI
from stemma.server.openai.keeping import end_those_left
from stemma.server.pooling.endpoints import ENDPOINTS as POOLING
from stemma.server.sglang.endpoints import ENDPOINTS as SGLANG
from stemma.server.status.endpoints import status_endpoints

DIALECTS = {
    (row.method, row.path): row.dialect for row in (*OPENAI, *POOLING, *ANTHROPIC, *OLLAMA, *SGLANG) if not row.header
}
"""Of the places that need no name in their paths."""


def app(engine: Engine, config: ServerConfig | None = None) -> Starlette:
    """The application on an engine, which stays the caller's to close. `app.state.service` is what it works with."""
    learn_types()
    service = Service(engine, config or ServerConfig())
    end_those_left(service)

    rows = (*OPENAI, *POOLING)
    runner = BatchRunner(service, {row.path: row for row in rows if row.method == "POST" and row.path in ANSWERED})
    service.runs.resumed.append(runner.resume)
    of_server = (*status_endpoints(), *cache_endpoints(service), *batch_endpoints(runner))
    endpoints = (*rows, *ANTHROPIC, *OLLAMA, *SGLANG, *of_server)

    @asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        service.runs.resume()
        yield

    async def openapi(context: RequestContext[Service, None]) -> Response:
        return json_reply(openapi_document(endpoints))

    table = (*endpoints, Endpoint("GET", "/openapi.json", openapi, "This document", is_open=True))
    handlers = {HTTPException: _no_such_place}
    starlette = Starlette(routes=_routes(table, service), exception_handlers=handlers, lifespan=lifespan)
    if service.config.cors_origins:
        starlette.add_middleware(
            CORSMiddleware, allow_origins=service.config.cors_origins, allow_methods=["*"], allow_headers=["*"]
        )
    starlette.state.service = service
    return starlette


class ByHeader:
    """Rows of one path, as one application: the first whose header the request has, else the one that asks for none."""

    def __init__(self, rows: Sequence[Endpoint], service: Service) -> None:
        self._apps = [
            (row.header, EndpointApp(row, service)) for row in sorted(rows, key=lambda row: row.header is None)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        chosen = next(app for header, app in self._apps if header is None or header in headers)
        await chosen(scope, receive, send)


def _routes(table: Sequence[Endpoint], service: Service) -> list[Route]:
    """A route for each path and method."""
    rows: dict[tuple[str, str], list[Endpoint]] = {}
    for row in table:
        rows.setdefault((row.method, row.path), []).append(row)
    return [
        Route(path, _application(of_path, service), methods=[method], name=path)
        for (method, path), of_path in rows.items()
    ]


def _application(rows: Sequence[Endpoint], service: Service) -> ASGIApp:
    return EndpointApp(rows[0], service) if len(rows) == 1 else ByHeader(rows, service)


async def _no_such_place(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    name, dialect = request_id(request.headers.get("x-request-id")), dialect_of(request)
    headers = dict.fromkeys(dialect.id_headers, name)
    if error.status_code == 405:
        known = ApiError(405, f"{request.url.path} takes no {request.method}", code="method_not_supported")
        headers["allow"] = ", ".join(sorted(_methods(request)))
    else:
        known = ApiError(404, f"there is no {request.url.path}", code="not_found")
    known.request_id = name
    return json_reply(dialect.error(known), known.status, headers)


def _methods(request: Request) -> set[str]:
    """What a place takes, in whichever of the table's rows."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in routes for method in route.methods}


def dialect_of(request: Request) -> Dialect:
    """In which a request is answered. Of a place that is not there: that of what is beside it, or the one whose header
    the request has."""
    path = request.url.path
    if (known := DIALECTS.get((request.method, path))) is not None:
        return known
    if path.startswith("/api/"):
        return OLLAMAS
    is_anthropic = VERSION_HEADER in request.headers or path.startswith("/v1/messages")
    return ANTHROPICS if is_anthropic else OPENAIS
