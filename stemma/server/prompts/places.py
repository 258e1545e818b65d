"""Where other chats will go on from a prompt: behind the system message, with which many begin. Only models with
windows or states need to know (docs/radix.md): others can go on anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

import msgspec
import numpy as np

from stemma.runtime.core.admission import common_prefix
from stemma.runtime.errors import PromptTooLong
from stemma.server.http.errors import ApiError
from stemma.server.prompts.prompter import ChatPrompter
from stemma.server.wire.chat import Message
from stemma.server.wire.tools import Tool

LEADING = frozenset(("system", "developer"))
MOST_KNOWN = 64


class SystemEnds:
    """The end of the system message in prompts of one model; the last few system messages are remembered as tokens. Any
    thread may use it."""

    def __init__(self, prompter: ChatPrompter) -> None:
        self._prompter = prompter
        self._known: dict[bytes, list[int]] = {}

    def find(
        self, messages: Sequence[Message], tools: Sequence[Tool], values: Mapping[str, Any], prompt: Sequence[int]
    ) -> int | None:
        """How many of the prompt's tokens any chat with these messages in front has; None where there are none."""
        leading = list(takewhile(lambda message: message.role in LEADING, messages))
        if not leading:
            return None
        key = msgspec.json.encode([leading, tools, values])
        tokens = self._known.get(key)
        if tokens is None:
            tokens = []
            with suppress(ApiError, PromptTooLong):  # a template that takes no such chat
                tokens = self._prompter.encode([*leading, Message(role="user", content=".")], tools, values, "closed")
            if len(self._known) >= MOST_KNOWN:
                self._known.pop(next(iter(self._known)), None)
            self._known[key] = tokens
        return common_prefix(np.array(tokens, np.int32), np.array(prompt, np.int32)) or None
