"""Which replica keeps a response or a conversation: its id says so, wherever it was made.

resp_0f3a...e1r3      made by the replica of rank 3, or by the one that has its place now
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from stemma.server.openai.wire import ResponsesRequest

KEPT = re.compile(r"[a-z]+_[0-9a-f]{32}r(\d{1,6})")


def keeps(rank: int) -> str:
    """What ids end with of what the replica of this rank keeps."""
    return f"r{rank}"


def keeper_of(name: Any) -> int | None:
    """The rank of who keeps what has this id; None where it does not say."""
    found = KEPT.fullmatch(name) if isinstance(name, str) else None
    return None if found is None else int(found[1])


def keeper_in_path(path: str) -> int | None:
    """Of what a path names."""
    return next((rank for part in path.split("/") if (rank := keeper_of(part)) is not None), None)


def keeper_in_body(body: bytes) -> int | None:
    """Of what a response goes on from, or else of the first item that it refers to."""
    try:
        asked = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    names = _names(asked) if isinstance(asked, dict) else ()
    return next((rank for name in names if (rank := keeper_of(name)) is not None), None)


def names_kept(body: ResponsesRequest) -> bool:
    """Whether a response goes on from something that is kept."""
    return body.previous_response_id is not None or body.conversation is not None


def _names(asked: dict[str, Any]) -> Iterator[Any]:
    conversation = asked.get("conversation")
    yield conversation.get("id") if isinstance(conversation, dict) else conversation
    yield asked.get("previous_response_id")
    given = asked.get("input")
    for item in given if isinstance(given, list) else ():
        if isinstance(item, dict) and item.get("type") == "item_reference":
            yield item.get("id")
