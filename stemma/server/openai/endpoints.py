"""Where OpenAI's API is."""

from __future__ import annotations

from stemma.server.http.dialect import Dialect
from stemma.server.http.endpoint import Endpoint
from stemma.server.openai import chat, completions, responses
from stemma.server.openai.wire import CompletionRequest, ResponsesRequest
from stemma.server.wire.chat import ChatRequest

RESPONSES = Dialect(event=responses.response_event, end=b"")

ENDPOINTS = (
    Endpoint("POST", "/v1/chat/completions", chat.chat_completions, "Answer a chat", ChatRequest),
    Endpoint("POST", "/v1/completions", completions.completions, "Continue texts", CompletionRequest),
    Endpoint(
        "POST",
        "/v1/responses",
        responses.responses,
        "Answer a conversation, stateless",
        ResponsesRequest,
        dialect=RESPONSES,
    ),
)
