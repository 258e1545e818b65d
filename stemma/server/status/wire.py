"""Requests to the tokenizer's endpoints."""

from __future__ import annotations

from stemma.server.wire.chat import Message
from stemma.server.wire.common import TokenId
from stemma.server.wire.fields import Wire
from stemma.server.wire.tools import Tool


class TokenizeRequest(Wire):
    """POST /tokenize: a text, or a chat with its template."""

    prompt: str | None = None
    messages: list[Message] | None = None
    model: str | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    tools: list[Tool] | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Wire):
    """POST /detokenize. skip_special_tokens: they are left out, not written by their names."""

    tokens: list[TokenId]
    model: str | None = None
    skip_special_tokens: bool = False
