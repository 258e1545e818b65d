"""Where OpenAI's API is."""

from __future__ import annotations

from stemma.server.http.dialect import Dialect
from stemma.server.http.endpoint import Endpoint
from stemma.server.http.replies import typed_event
from stemma.server.openai import chat, completions, conversations, responses, stored_chats, stored_responses
from stemma.server.openai.queries import OldestFirstQuery, PageQuery, ResponseQuery, StoredChatsQuery
from stemma.server.openai.wire import (
    CompactRequest,
    CompletionRequest,
    ConversationRequest,
    InputTokensRequest,
    ItemsRequest,
    MetadataRequest,
    ResponsesRequest,
)
from stemma.server.wire.chat import ChatRequest

RESPONSES = Dialect(event=typed_event, end=b"")
"""The last event of an answer says that it is the last."""

ENDPOINTS = (
    Endpoint("POST", "/v1/chat/completions", chat.chat_completions, "Answer a chat", ChatRequest),
    Endpoint(
        "GET", "/v1/chat/completions", stored_chats.listed, "Chat completions that are kept", query=StoredChatsQuery
    ),
    Endpoint("GET", "/v1/chat/completions/{completion_id}", stored_chats.retrieve, "One that is kept"),
    Endpoint(
        "POST", "/v1/chat/completions/{completion_id}", stored_chats.update, "Change its metadata", MetadataRequest
    ),
    Endpoint("DELETE", "/v1/chat/completions/{completion_id}", stored_chats.delete, "Forget a chat completion"),
    Endpoint(
        "GET", "/v1/chat/completions/{completion_id}/messages", stored_chats.messages, "What it was asked by",
        query=OldestFirstQuery,
    ),
    Endpoint("POST", "/v1/completions", completions.completions, "Continue texts", CompletionRequest),
    Endpoint(
        "POST",
        "/v1/responses",
        responses.responses,
        "Answer a conversation",
        ResponsesRequest,
        dialect=RESPONSES,
    ),
    Endpoint(
        "POST", "/v1/responses/input_tokens", stored_responses.input_tokens, "Count an input's tokens",
        InputTokensRequest,
    ),
    Endpoint("POST", "/v1/responses/compact", stored_responses.compact, "Refused: what to do instead", CompactRequest),
    Endpoint(
        "GET", "/v1/responses/{response_id}", stored_responses.retrieve, "A response that is kept", dialect=RESPONSES,
        query=ResponseQuery,
    ),
    Endpoint("DELETE", "/v1/responses/{response_id}", stored_responses.delete, "Forget a response"),
    Endpoint("POST", "/v1/responses/{response_id}/cancel", stored_responses.cancel, "End a response in the background"),
    Endpoint(
        "GET", "/v1/responses/{response_id}/input_items", stored_responses.input_items, "What a response went on from",
        query=PageQuery,
    ),
    Endpoint("POST", "/v1/conversations", conversations.create, "A new conversation", ConversationRequest),
    Endpoint("GET", "/v1/conversations/{conversation_id}", conversations.retrieve, "A conversation"),
    Endpoint(
        "POST", "/v1/conversations/{conversation_id}", conversations.update, "Change its metadata", MetadataRequest
    ),
    Endpoint("DELETE", "/v1/conversations/{conversation_id}", conversations.delete, "Forget a conversation"),
    Endpoint(
        "GET", "/v1/conversations/{conversation_id}/items", conversations.items, "Its items", query=PageQuery
    ),
    Endpoint("POST", "/v1/conversations/{conversation_id}/items", conversations.add_items, "More items", ItemsRequest),
    Endpoint("GET", "/v1/conversations/{conversation_id}/items/{item_id}", conversations.item, "One of its items"),
    Endpoint(
        "DELETE", "/v1/conversations/{conversation_id}/items/{item_id}", conversations.delete_item, "Forget an item"
    ),
)  # fmt: skip
