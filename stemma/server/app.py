"""The server as an ASGI application: one table of endpoints, of which routes and the OpenAPI document are made."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stemma.runtime.engine import Engine
from stemma.server import cache_api, chat, completions, info, metrics, native, responses, tokens
from stemma.server.config import ServerConfig
from stemma.server.endpoint import Call, Endpoint, EndpointApp
from stemma.server.errors import ApiError
from stemma.server.openapi import openapi_document
from stemma.server.replies import json_reply
from stemma.server.service import Service
from stemma.server.wire.chat import ChatRequest, DetokenizeRequest, TokenizeRequest
from stemma.server.wire.completions import CompletionRequest
from stemma.server.wire.native import FlushRequest, GenerateRequest, PinRequest, PrefixRequest, SavedName
from stemma.server.wire.responses import ResponsesRequest

ENDPOINTS = (
    Endpoint("POST", "/v1/chat/completions", chat.chat_completions, "Answer a chat", ChatRequest),
    Endpoint("POST", "/v1/completions", completions.completions, "Continue texts", CompletionRequest),
    Endpoint("POST", "/v1/responses", responses.responses, "Answer a conversation, stateless", ResponsesRequest),
    Endpoint("GET", "/v1/models", info.models, "The models served"),
    Endpoint("GET", "/v1/models/{model:path}", info.model, "One model"),
    Endpoint("GET", "/health", info.health, "Whether requests are taken", is_open=True),
    Endpoint("GET", "/health_generate", info.health, "Whether requests are taken", is_open=True),
    Endpoint("GET", "/version", info.version, "Stemma's version", is_open=True),
    Endpoint("GET", "/metrics", metrics.metrics, "Prometheus metrics"),
    Endpoint("POST", "/tokenize", tokens.tokenize, "Tokens of a text or a chat", TokenizeRequest),
    Endpoint("GET", "/tokenizer", tokens.tokenizer, "The tokenizer itself, with the chat template"),
    Endpoint("POST", "/detokenize", tokens.detokenize, "Text of tokens", DetokenizeRequest),
    Endpoint("GET", "/tokenizer_info", tokens.tokenizer_info, "Special tokens and the chat template"),
    Endpoint("GET", "/server_info", info.server_info, "Options and load"),
    Endpoint("GET", "/get_server_info", info.server_info, "Options and load"),
    Endpoint("GET", "/model_info", info.model_info, "The model"),
    Endpoint("GET", "/get_model_info", info.model_info, "The model"),
    Endpoint("GET", "/v1/loads", info.loads, "How busy the engine is"),
    Endpoint("POST", "/generate", native.generate, "Continue texts, as SGLang does", GenerateRequest),
    Endpoint("POST", "/flush_cache", cache_api.flush_cache, "Forget the caller's part of the cache", FlushRequest),
    Endpoint("GET", "/cache/tree", cache_api.tree, "The radix tree"),
    Endpoint("GET", "/cache/events", cache_api.tree_events, "The radix tree as it changes"),
    Endpoint("POST", "/cache/explain", cache_api.explain, "How much of a prompt is cached, and why", PrefixRequest),
    Endpoint("POST", "/cache/warm", cache_api.warm, "Have a prefix computed", PrefixRequest),
    Endpoint("POST", "/cache/pin", cache_api.pin, "Have a prefix computed and kept", PinRequest),
    Endpoint("GET", "/cache/pins", cache_api.pins, "The caller's pins"),
    Endpoint("DELETE", "/cache/pins/{pin_id}", cache_api.unpin, "Let go of a pin"),
    Endpoint("POST", "/cache/save", cache_api.save_cache, "Write the caller's part of the cache to a file", SavedName),
    Endpoint("POST", "/cache/load", cache_api.load_cache, "Have a saved cache again", SavedName),
    Endpoint("GET", "/cache/saved", cache_api.saved_caches, "The caller's saved caches"),
    Endpoint("DELETE", "/cache/saved/{name}", cache_api.delete_saved, "Delete a saved cache"),
    Endpoint("GET", "/tree", cache_api.tree_page, "The live tree, as a page", is_open=True),
)


def app(engine: Engine, config: ServerConfig | None = None) -> Starlette:
    """The application on an engine, which stays the caller's to close. `app.state.service` is what it works with."""
    service = Service(engine, config or ServerConfig())

    async def openapi(call: Call[None]) -> Response:
        return json_reply(openapi_document(ENDPOINTS))

    table = (*ENDPOINTS, Endpoint("GET", "/openapi.json", openapi, "This document", is_open=True))
    routes = [Route(row.path, EndpointApp(row, service), methods=[row.method], name=row.path) for row in table]
    starlette = Starlette(routes=routes, exception_handlers={HTTPException: _no_such_place})
    if service.config.cors_origins:
        starlette.add_middleware(
            CORSMiddleware, allow_origins=service.config.cors_origins, allow_methods=["*"], allow_headers=["*"]
        )
    starlette.state.service = service
    return starlette


async def _no_such_place(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {404: f"there is no {request.url.path}", 405: f"{request.url.path} takes no {request.method}"}
    known = ApiError(error.status_code, message.get(error.status_code, error.detail), code="not_found")
    return json_reply(known.body(), known.status, error.headers)
