"""Where Anthropic's API is."""

from __future__ import annotations

from stemma.server.anthropic import messages, models
from stemma.server.anthropic.errors import ANTHROPIC, VERSION_HEADER
from stemma.server.anthropic.wire import CountTokensRequest, MessagesRequest
from stemma.server.http.endpoint import Endpoint

ENDPOINTS = (
    Endpoint(
        "POST", "/v1/messages", messages.messages, "Answer a conversation, as Anthropic does", MessagesRequest,
        dialect=ANTHROPIC,
    ),
    Endpoint(
        "POST", "/v1/messages/count_tokens", messages.count_tokens, "Tokens of a conversation", CountTokensRequest,
        dialect=ANTHROPIC,
    ),
    Endpoint(
        "GET", "/v1/models", models.models, "The models served", dialect=ANTHROPIC, header=VERSION_HEADER
    ),
    Endpoint(
        "GET", "/v1/models/{model:path}", models.model, "One model", dialect=ANTHROPIC, header=VERSION_HEADER
    ),
)  # fmt: skip
