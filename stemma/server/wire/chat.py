"""A chat to continue: POST /v1/chat/completions as it comes over the wire, and what other dialects translate into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from stemma.server.wire.common import Count, FunctionSpec, GenerationRequest, NumLogprobs
from stemma.server.wire.fields import Only, Rule, Taken, Wire
from stemma.server.wire.known import COMING_BACK, OPENAI_CHAT, SGLANG_CHAT, TEXT_ONLY, VLLM_CHAT
from stemma.server.wire.tools import FunctionCall, NamedFunction, NamedToolChoice, Tool, ToolCall, ToolChoice

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]

CALL_ID = "call_function"
"""Of calls and results in the older form, which has no ids: each result is of the call before it."""


TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


class TextPart(Wire):
    """A piece of a message's content; a refusal that comes back is text that was said."""

    rules: ClassVar[Mapping[str, Rule]] = {**COMING_BACK, "logprobs": Taken("they are of an answer that was given")}

    type: str
    text: str | None = None
    refusal: str | None = None

    def __post_init__(self) -> None:
        if self.type not in TEXT_PARTS:
            raise ValueError(f"a part is of type {' or '.join(TEXT_PARTS)}, not {self.type}: {TEXT_ONLY}")
        name = "refusal" if self.type == "refusal" else "text"
        if getattr(self, name) is None:
            raise ValueError(f"a part of type {self.type} has a {name}")

    @property
    def said(self) -> str:
        """What it says."""
        return (self.refusal if self.type == "refusal" else self.text) or ""


class Message(Wire):
    """One message. refusal: what an assistant said that said nothing else. function_call, role function: a call and its
    result, as they were said before there were tools."""

    rules: ClassVar[Mapping[str, Rule]] = COMING_BACK

    role: Role
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    function_call: FunctionCall | None = None

    def __post_init__(self) -> None:
        if self.content is None:
            self.content = self.refusal
        if self.function_call is not None:
            if self.tool_calls:
                raise ValueError("function_call is what tool_calls were before: give one of them")
            self.tool_calls, self.function_call = [ToolCall(id=CALL_ID, function=self.function_call)], None
        if self.role == "function":
            self.role, self.tool_call_id = "tool", self.tool_call_id or CALL_ID


ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class ChatRequest(GenerationRequest, kw_only=True):
    """A chat to continue.

    As vLLM's: add_generation_prompt: the prompt ends with what an answer begins with, unless this is false;
    continue_final_message: the answer goes on with the last message. store: the answer is kept, with its metadata.
    functions, function_call: what tools and tool_choice were before; the answer then calls one, in the older form too.
    """

    rules: ClassVar[Mapping[str, Rule]] = {
        **OPENAI_CHAT,
        **VLLM_CHAT,
        **SGLANG_CHAT,
        "echo": Only((False,), "the messages are the caller's own"),
    }

    messages: list[Message]
    logprobs: bool | None = None
    top_logprobs: NumLogprobs | None = None
    max_completion_tokens: Count | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    functions: list[FunctionSpec] | None = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: ReasoningEffort | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.functions:
            if isinstance(self.function_call, NamedFunction):
                raise ValueError("function_call names one of functions, and there are none")
            return
        if self.tools or self.tool_choice is not None:
            raise ValueError("functions are what tools were before: give tools and tool_choice, or functions")
        self.tools, self.parallel_tool_calls = [Tool(function=each) for each in self.functions], False
        named = self.function_call
        self.tool_choice = NamedToolChoice(function=named) if isinstance(named, NamedFunction) else named
