"""The beginnings of prompts that an operator names, as tokens: what every prompt has that begins so, whatever follows.

A text's last tokens depend on what follows it, and what a chat template writes behind a message on who speaks next. So
several ends are tried, and what they have in common is the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stemma.runtime.errors import InvalidRequest
from stemma.server.config import SharedPrompt
from stemma.server.http.decoding import BodyReader
from stemma.server.http.errors import ApiError
from stemma.server.prompts.prompter import ChatPrompter
from stemma.server.wire.chat import Message
from stemma.server.wire.tools import Tool

ENDS = ("a", "The", "1", " b", "\n\nc", "-", '"', "é", "你", "<")


def beginnings(prompter: ChatPrompter, prompt: SharedPrompt) -> list[list[int]]:
    """What prompts begin with, the longest last: of a chat, with a turn of its user's next, and with any turn next.

    Raises InvalidRequest for what is no such prompt.
    """
    try:
        found = _of_text(prompter, prompt) if prompt.tokens or prompt.prompt is not None else _of_chat(prompter, prompt)
    except (ApiError, InvalidRequest) as error:
        raise InvalidRequest(f"the shared prompt {prompt.name!r}: {error}", "shared_prompts") from error
    if not found[-1]:
        raise InvalidRequest(f"the shared prompt {prompt.name!r} has no beginning of its own", "shared_prompts")
    return [tokens for tokens in found if tokens]


def _of_text(prompter: ChatPrompter, prompt: SharedPrompt) -> list[list[int]]:
    if prompt.prompt is None:
        return [list(prompt.tokens)]
    return [common_beginning([prompter.encode_text(prompt.prompt + end) for end in ENDS])]


def _of_chat(prompter: ChatPrompter, prompt: SharedPrompt) -> list[list[int]]:
    reader = BodyReader(is_strict=True)
    messages = reader.convert(_plain(prompt.messages), list[Message], "messages")
    if prompt.system is not None:
        messages = [Message(role="system", content=prompt.system), *messages]
    tools = reader.convert(_plain(prompt.tools), list[Tool], "tools")
    values = dict(prompt.chat_template_kwargs or {})
    is_asked = bool(messages) and messages[-1].role == "user"
    ways: list[list[int]] = []
    for role in ("assistant", "user") if is_asked else ("user", "assistant"):
        try:
            chats = [[*messages, Message(role=role, content=end)] for end in ENDS]
            ways.append(common_beginning([prompter.encode(chat, tools, values) for chat in chats]))
        except ApiError:
            if not ways:
                raise  # a template may refuse one who speaks twice, or who speaks first; this is who speaks next
    every = common_beginning(ways)
    return [every, ways[0]] if every != ways[0] else [every]


def common_beginning(lists: Sequence[list[int]]) -> list[int]:
    """What all begin with."""
    shortest, longest = min(lists), max(lists)
    ends = (at for at, (left, right) in enumerate(zip(shortest, longest, strict=False)) if left != right)
    return shortest[: next(ends, min(len(shortest), len(longest)))]


def _plain(values: Sequence[Any]) -> Any:
    return msgspec.to_builtins(list(values))
