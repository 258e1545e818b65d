"""Where a server tells of itself."""

from __future__ import annotations

from stemma.server.http.endpoint import Endpoint
from stemma.server.status import info, tokens
from stemma.server.status.metrics import MetricsApi
from stemma.server.status.wire import DetokenizeRequest, TokenizeRequest


def status_endpoints() -> tuple[Endpoint, ...]:
    """The endpoints of one server."""
    return (
        Endpoint("GET", "/", info.about, "What is here", is_open=True),
        Endpoint("GET", "/v1/models", info.models, "The models served"),
        Endpoint("GET", "/models", info.models, "The models served"),
        Endpoint("GET", "/v1/models/{model:path}", info.model, "One model"),
        Endpoint("GET", "/health", info.health, "Whether requests are taken", is_open=True),
        Endpoint("GET", "/ping", info.health, "Whether requests are taken", is_open=True),
        Endpoint("GET", "/health_generate", info.health, "Whether requests are taken", is_open=True),
        Endpoint("GET", "/version", info.version, "Stemma's version", is_open=True),
        Endpoint("GET", "/metrics", MetricsApi().metrics, "Prometheus metrics", is_open=True, media_type="text/plain"),
        Endpoint("POST", "/tokenize", tokens.tokenize, "Tokens of a text or a chat", TokenizeRequest),
        Endpoint("GET", "/tokenizer", tokens.tokenizer, "The tokenizer itself, with the chat template"),
        Endpoint("POST", "/detokenize", tokens.detokenize, "Text of tokens", DetokenizeRequest),
        Endpoint("GET", "/tokenizer_info", tokens.tokenizer_info, "Special tokens and the chat template"),
        Endpoint("GET", "/server_info", info.server_info, "Options and load"),
        Endpoint("GET", "/get_server_info", info.server_info, "Options and load"),
        Endpoint("GET", "/model_info", info.model_info, "The model"),
        Endpoint("GET", "/get_model_info", info.model_info, "The model"),
        Endpoint("GET", "/v1/loads", info.loads, "How busy the engine is"),
    )
