"""What may stand behind the `?` of the paths at which kept things are read: for the document of all endpoints."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stemma.server.wire.common import Count


class PageQuery(msgspec.Struct, kw_only=True):
    """A part of a list: at most `limit`, behind the one with the id `after`."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


class OldestFirstQuery(PageQuery, kw_only=True):
    """A part of a list that begins with the oldest."""

    order: Literal["asc", "desc"] = "asc"


class StoredChatsQuery(OldestFirstQuery, kw_only=True):
    """Answers to chats, those of one model if it is named."""

    model: str | None = None


class FilesQuery(PageQuery, kw_only=True):
    """Files, those for one purpose if it is named."""

    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    purpose: str | None = None


class ResponseQuery(msgspec.Struct, kw_only=True):
    """stream: as its events, those behind the number `starting_after`."""

    stream: bool = False
    starting_after: Count | None = None
