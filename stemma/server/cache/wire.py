"""Requests to the cache's endpoints."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from stemma.server.wire.chat import Message
from stemma.server.wire.common import Salt, TokenId
from stemma.server.wire.fields import Wire
from stemma.server.wire.tools import Tool


class TreeQuery(msgspec.Struct, kw_only=True):
    """tokens: the nodes' token ids and blocks instead of excerpts of their texts."""

    tokens: bool = False


class PrefixRequest(Wire):
    """What cache endpoints speak of: a text, a chat (and what its template is told besides), or token ids; by which
    model, and where in the caller's namespace."""

    prompt: str | None = None
    messages: list[Message] | None = None
    tokens: list[TokenId] | None = None
    tools: list[Tool] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool = False
    cache_salt: Salt | None = None
    model: str | None = None


class PinRequest(PrefixRequest, kw_only=True):
    """ttl: seconds until the pin lets go by itself."""

    ttl: Annotated[float, Meta(gt=0, le=86400)] = 300.0


class SavedName(Wire):
    """POST /cache/save and /cache/load: what a file of the cache is called."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")] = "cache"


class FlushRequest(Wire):
    """POST /flush_cache."""

    empty_cache: bool | None = None
    timeout: float | None = None
