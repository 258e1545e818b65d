"""`truncation: "auto"`: a conversation that is too long goes on without its oldest turns."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from stemma.runtime.errors import PromptTooLong
from stemma.server.generation.chats import max_tokens, template_values
from stemma.server.generation.service import Service
from stemma.server.outputs.constraints import tool_use
from stemma.server.wire.chat import ChatRequest


def shortened(service: Service, body: ChatRequest) -> ChatRequest:
    """The chat without as many of its oldest turns as it takes for prompt and answer to fit; the system's words and the
    last turn stay. A turn begins with what a user says."""
    messages = body.messages
    begins = [at for at, message in enumerate(messages) if message.role == "user"]
    if not begins:
        return body
    head = messages[: begins[0]]
    room = service.engine.room(0) - max(1, max_tokens(body) or 0)
    offered = tool_use(body).offered

    def fits(begin: int) -> bool:
        try:
            tokens = service.prompter.encode([*head, *messages[begin:]], offered, template_values(body))
        except PromptTooLong:
            return False
        return len(tokens) <= room

    at = min(bisect_left(begins, True, key=fits), len(begins) - 1)
    return msgspec.structs.replace(body, messages=[*head, *messages[begins[at] :]]) if at else body
