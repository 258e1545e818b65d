"""Requests to /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from stemma.server.anthropic.blocks import CacheControl, Content, TextBlock
from stemma.server.anthropic.known import MESSAGES, THINKING, TOOL, TURN
from stemma.server.anthropic.own_tools import own_tool
from stemma.server.wire.common import Count, SamplingRequest
from stemma.server.wire.fields import Rule, Taken, Wire

ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
Effort = Literal["low", "medium", "high", "xhigh", "max"]


class MessageParam(Wire):
    """One message. Those in a row of one role are one turn."""

    rules: ClassVar[Mapping[str, Rule]] = TURN

    role: Literal["user", "assistant", "system"]
    content: Content


class ToolParam(Wire):
    """A tool: the caller's own, with a schema, or one of Anthropic's that the caller runs, by its type."""

    rules: ClassVar[Mapping[str, Rule]] = TOOL

    name: ToolName
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    input_examples: list[dict[str, Any]] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None

    def __post_init__(self) -> None:
        if self.type in (None, "custom"):
            if self.input_schema is None:
                raise ValueError(f"tool {self.name} has no input_schema")
        else:
            own_tool(self.type)


class ToolChoiceParam(Wire):
    """Whether tools are called. name: of the one that must be, for type "tool"."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    def __post_init__(self) -> None:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("a tool_choice has a name if its type is tool, and only then")


class ThinkingParam(Wire):
    """Whether to think. display: "omitted" leaves the thoughts out of the answer."""

    rules: ClassVar[Mapping[str, Rule]] = THINKING

    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    display: Literal["summarized", "omitted", "updates"] | None = None


class JsonFormat(Wire):
    """JSON of one schema."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Wire):
    """How much to think and write, and in which form."""

    rules: ClassVar[Mapping[str, Rule]] = {"task_budget": Taken("max_tokens bounds an answer")}

    effort: Effort | None = None
    format: JsonFormat | None = None


class CountTokensRequest(SamplingRequest, kw_only=True):
    """What a prompt is made of. output_format: what output_config.format was called before."""

    rules: ClassVar[Mapping[str, Rule]] = {**MESSAGES, "max_tokens": Taken("nothing is generated")}

    messages: list[MessageParam]
    system: str | list[TextBlock] | None = None
    tools: list[ToolParam] | None = None
    tool_choice: ToolChoiceParam | None = None
    thinking: ThinkingParam | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None
    cache_control: CacheControl | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=64)] | None = None


class MessagesRequest(CountTokensRequest, kw_only=True):
    """A turn to answer."""

    max_tokens: Count
