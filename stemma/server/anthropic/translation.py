"""A request to /v1/messages as the chat request that means the same."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from stemma.server.anthropic.blocks import (
    Block,
    DocumentBlock,
    RedactedThinkingBlock,
    Said,
    SearchResultBlock,
    TextBlock,
    ThinkingBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
    joined,
)
from stemma.server.anthropic.own_tools import own_tool
from stemma.server.anthropic.wire import CountTokensRequest, ToolParam
from stemma.server.http.errors import bad_request
from stemma.server.wire import common
from stemma.server.wire.chat import ChatRequest, Message, ReasoningEffort, TextPart
from stemma.server.wire.tools import FunctionCall, NamedFunction, NamedToolChoice, Tool, ToolCall

SEALED = "stemma:"
"""What a signature begins with that has the thoughts themselves."""

ATTRIBUTION = "x-anthropic-billing-header:"
"""What a block of the system prompt begins with that is for accounting, and other in each request."""


class Turn(NamedTuple):
    """What one side says before the other does."""

    role: Literal["user", "assistant", "system"]
    blocks: list[Block]


def as_chat(body: CountTokensRequest) -> ChatRequest:
    """Raises ApiError. The greatest length is left out."""
    turns = turns_of(body)
    disabled = None if body.tool_choice is None else body.tool_choice.disable_parallel_tool_use
    shared = {name: getattr(body, name) for name in common.SamplingRequest.__struct_fields__}
    return ChatRequest(
        **shared | {"stop": _stops(body)},
        messages=messages_of(system_text(body), turns),
        continue_final_message=_goes_on(turns) or None,
        response_format=_format(body),
        tools=[_tool(tool) for tool in body.tools] if body.tools else None,
        tool_choice=_tool_choice(body),
        parallel_tool_calls=None if disabled is None else not disabled,
        reasoning_effort=_effort(body),
        chat_template_kwargs=body.chat_template_kwargs,
    )


def turns_of(body: CountTokensRequest) -> list[Turn]:
    """The conversation, with one turn for messages in a row of one role. An answer that has not begun is left out."""
    turns: list[Turn] = []
    for message in body.messages:
        content = message.content
        blocks: list[Block] = [TextBlock(text=content)] if isinstance(content, str) else content
        if turns and turns[-1].role == message.role:
            turns[-1] = Turn(message.role, [*turns[-1].blocks, *blocks])
        else:
            turns.append(Turn(message.role, blocks))
    if turns and turns[-1].role == "assistant" and not any(map(_says, turns[-1].blocks)):
        turns.pop()
    return turns


def _says(block: Block) -> bool:
    return not isinstance(block, TextBlock) or bool(block.text)


def system_text(body: CountTokensRequest) -> str | None:
    """The system prompt, without what clients put before it for accounting."""
    if isinstance(body.system, str | None):
        return body.system
    return joined([block for block in body.system if not is_attribution(block)]) or None


def is_attribution(block: TextBlock) -> bool:
    """Whether a block is no part of the prompt."""
    return block.text.startswith(ATTRIBUTION)


def messages_of(system: str | None, turns: Sequence[Turn]) -> list[Message]:
    """The chat's messages."""
    messages = [] if system is None else [Message(role="system", content=system)]
    for turn in turns:
        messages += [_answer(turn.blocks)] if turn.role == "assistant" else _asked(turn)
    return messages


def _asked(turn: Turn) -> list[Message]:
    """What a user says, and results of calls, in their order."""
    messages: list[Message] = []
    texts: list[TextPart] = []
    for block in turn.blocks:
        if isinstance(block, ToolResultBlock):
            messages += [Message(role=turn.role, content=texts)] if texts else []
            messages.append(Message(role="tool", content=block.text, tool_call_id=block.tool_use_id))
            texts = []
        elif isinstance(block, ToolUseBlock | ThinkingBlock | RedactedThinkingBlock):
            raise bad_request(f"a message of the {turn.role} has a block that only an assistant says", "messages")
        elif isinstance(block, Said):
            texts.append(TextPart(type="text", text=block.text))
    return [*messages, Message(role=turn.role, content=texts)] if texts or not messages else messages


def _answer(blocks: Sequence[Any]) -> Message:
    """What the model said."""
    text, thoughts, calls = "", "", []
    for block in blocks:
        match block:
            case ThinkingBlock():
                thoughts += unsealed(block)
            case ToolUseBlock():
                arguments = msgspec.json.encode(block.input).decode()
                calls.append(ToolCall(id=block.id, function=FunctionCall(name=block.name, arguments=arguments)))
            case ToolResultBlock():
                raise bad_request("a tool_result is said by the user: put it into the next message", "messages")
            case TextBlock() | DocumentBlock() | SearchResultBlock() | ToolReferenceBlock():
                text += block.text
    return Message(role="assistant", content=text, reasoning_content=thoughts or None, tool_calls=calls or None)


def sealed(thoughts: str) -> str:
    """A signature that has the thoughts."""
    return SEALED + base64.b64encode(thoughts.encode()).decode()


def unsealed(block: ThinkingBlock) -> str:
    """The thoughts of a block, which may have been left out of it."""
    signature = block.signature or ""
    if block.thinking or not signature.startswith(SEALED):
        return block.thinking
    try:
        return base64.b64decode(signature.removeprefix(SEALED), validate=True).decode()
    except ValueError as error:
        raise bad_request("the signature of a thinking block was changed: leave the block out", "messages") from error


def _goes_on(turns: Sequence[Turn]) -> bool:
    """Whether the answer goes on with the last message. Raises ApiError for calls without their results."""
    if not turns or turns[-1].role != "assistant":
        return False
    if any(isinstance(block, ToolUseBlock) for block in turns[-1].blocks):
        raise bad_request("messages: a tool_use has no tool_result: put it into a user's message behind it", "messages")
    return True


def _stops(body: CountTokensRequest) -> list[str] | None:
    own = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return [*own, *(body.stop_sequences or [])] or None


def _format(body: CountTokensRequest) -> common.ResponseFormat | None:
    newer = None if body.output_config is None else body.output_config.format
    given = [form for form in (newer, body.output_format) if form is not None]
    if len(given) > 1:
        raise bad_request("output_format is the older name of output_config.format: give one", "output_format")
    if not given:
        return None
    return common.JsonSchemaFormat(json_schema=common.JsonSchemaSpec(schema=given[0].schema))


def _tool(tool: ToolParam) -> Tool:
    if tool.type in (None, "custom"):
        description, schema = tool.description, tool.input_schema or {}
    else:
        assert tool.type is not None
        description, schema = own_tool(tool.type)
    if tool.input_examples:
        schema = {**schema, "examples": tool.input_examples}
    spec = common.FunctionSpec(name=tool.name, description=description, parameters=schema, strict=tool.strict)
    return Tool(function=spec)


def _tool_choice(body: CountTokensRequest) -> Any:
    choice = body.tool_choice
    if choice is None:
        return None
    if choice.type == "tool":
        return NamedToolChoice(function=NamedFunction(name=choice.name or ""))
    return {"any": "required"}.get(choice.type, choice.type)


def _effort(body: CountTokensRequest) -> ReasoningEffort | None:
    """How much to think. Without a word on it, as the model's template has it."""
    asked = body.output_config.effort if body.output_config is not None else None
    effort: ReasoningEffort | None = "xhigh" if asked == "max" else asked
    match body.thinking.type if body.thinking is not None else None:
        case "disabled" | "between_tools":
            return "none"
        case "enabled":
            return effort or "medium"
        case _:
            return effort
