"""POST /v1/messages and /v1/messages/count_tokens: the same way to the engine as a chat."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from stemma.server.anthropic.answers import MessageAnswer
from stemma.server.anthropic.blocks import RedactedThinkingBlock
from stemma.server.anthropic.prefixes import breakpoints, kept_prefixes
from stemma.server.anthropic.translation import Turn, as_chat, is_attribution, turns_of
from stemma.server.anthropic.wire import CountTokensRequest, MessagesRequest
from stemma.server.generation.answering import reply
from stemma.server.generation.chats import (
    ChatTurn,
    chat_options,
    chat_prompt,
    prepare_chat,
    start_turn,
    without_effect,
)
from stemma.server.generation.generations import errors_of_prompt_named
from stemma.server.generation.service import Service
from stemma.server.http.decoding import BodyReader
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.replies import json_reply
from stemma.server.outputs.constraints import tool_use


async def messages(context: RequestContext[Service, MessagesRequest]) -> Response:
    """Answer a conversation."""
    body, service = context.body, context.service
    turn = await prepare_chat(context, as_chat(body), "messages")
    turns = turns_of(body)
    asked = breakpoints(body, turns)
    kept = await service.work(kept_prefixes, body, turns, asked, turn) if asked else []
    _name_unused(body, turns, context.reader)
    if len({one.seconds for one in asked}) > len(kept):
        context.reader.unused["cache_control"] = None
    if service.system_ends is not None:
        turn.options["marks_at"] = [*turn.options.get("marks_at", ()), *(each.num_tokens for each in kept)]
    num_cached = await service.work(_num_cached, turn) if body.stream else 0
    generations = start_turn(context, turn, "messages", None, body.max_tokens)
    return await reply(context, MessageAnswer(turn, body, kept, num_cached), generations)


async def count_tokens(context: RequestContext[Service, CountTokensRequest]) -> Response:
    """What a message with this prompt would have as input."""
    body, service = context.body, context.service
    chat = as_chat(body)
    context.reader.unused |= dict.fromkeys(without_effect(chat, service.prompter))
    _name_unused(body, turns_of(body), context.reader)
    namespace = chat_options(chat, context.tenant, service)["namespace"]
    with errors_of_prompt_named("messages"):
        prompt = await service.work(chat_prompt, service, chat, tool_use(chat), namespace)
    return json_reply({"input_tokens": len(prompt.tokens)})


def _num_cached(turn: ChatTurn) -> int:
    """Tokens of the prompt that are cached before it runs; its last one is computed in any case."""
    engine, options, tokens = turn.service.engine, turn.options, turn.prompt.tokens
    if not engine.config.prefix_cache:
        return 0
    return min(engine.explain(tokens, options["namespace"], options["lora"]).hit_len, len(tokens) - 1)


def _name_unused(body: CountTokensRequest, turns: Sequence[Turn], reader: BodyReader) -> None:
    """Say what had no effect under the names that the client sent."""
    unused = reader.unused
    if "reasoning_effort" in unused:
        del unused["reasoning_effort"]
        is_effort = body.output_config is not None and body.output_config.effort is not None
        unused["output_config.effort" if is_effort else "thinking"] = None
    if isinstance(body.system, list) and any(map(is_attribution, body.system)):
        unused["system[].x-anthropic-billing-header"] = None
    if any(isinstance(block, RedactedThinkingBlock) for turn in turns for block in turn.blocks):
        unused["messages[].content[].redacted_thinking"] = None
