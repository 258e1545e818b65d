"""Requests to /v1/completions and to /v1/responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from stemma.runtime.tongues.answer_grammar import MAX_CALLS
from stemma.server.wire.chat import ReasoningEffort, TextPart
from stemma.server.wire.common import Count, FunctionSpec, GenerationRequest, NumChoices, NumLogprobs, SamplingRequest
from stemma.server.wire.fields import Only, Rule, Taken, Wire
from stemma.server.wire.known import ACCOUNTING, COMING_BACK, OPENAI_ANSWERS
from stemma.server.wire.tools import AllowedTool, CustomFormat, CustomSpec, GrammarText, Tool, ToolName


class Calling(Wire):
    """What a chat's answer may call. required: it must."""

    tools: Annotated[list[Tool], Meta(min_length=1)]
    max_calls: Annotated[int, Meta(ge=1, le=MAX_CALLS)] | None = None
    required: bool | None = None


class CompletionRequest(GenerationRequest):
    """A text to continue, or several, each as text or as token ids.

    logprobs: this many of the most likely tokens at each position. echo: the prompt is part of the answer.
    prompt_logprobs: as vLLM's: the prompt's own log-probabilities, with this many alternatives; scored_from: beginning
    with this token of it (1 if left out), so that what stands before is looked up in the cache. behind_thoughts: the
    prompt is a chat's, as token ids, and the form binds what the model says when it has thought. calling: such a prompt
    tells of functions; the answer calls them in the model's own form, or says what the form binds.
    """

    rules: ClassVar[Mapping[str, Rule]] = {
        "add_special_tokens": Only((True,), "say it by prompt_token_ids"),
        "suffix": Only(("",), "write the prompt with the model's own marks for what is before and behind"),
        "prompt_embeds": Only((), "give prompt"),
        "return_bytes": Only((False,), "text is text"),
    }

    prompt: str | list[Any] | None = None
    best_of: NumChoices | None = None
    echo: bool | None = None
    logprobs: NumLogprobs | None = None
    prompt_logprobs: NumLogprobs | None = None
    scored_from: Count | None = None
    behind_thoughts: bool | None = None
    calling: Calling | None = None


ITEM: Mapping[str, Rule] = {
    "id": Taken("items are known by their text"),
    "status": Taken("items are taken as they are"),
    "phase": Taken("items are taken as they are"),
    "created_by": Taken("items are known by their text"),
    "caller": Taken("items are known by their text"),
    **{name: COMING_BACK[name] for name in ("provider_specific_fields", "cache_control")},
}


class InputMessage(Wire, tag_field="type", tag="message"):
    """A message, the caller's or one that was answered before."""

    rules: ClassVar[Mapping[str, Rule]] = ITEM

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[TextPart]


class InputCall(Wire, tag_field="type", tag="function_call"):
    """A call that the model made before."""

    rules: ClassVar[Mapping[str, Rule]] = {**ITEM, "namespace": Only((), "call tools by their names")}

    call_id: str
    name: str
    arguments: str


class InputCallOutput(Wire, tag_field="type", tag="function_call_output"):
    """What came of a call."""

    rules: ClassVar[Mapping[str, Rule]] = ITEM

    call_id: str
    output: str | list[TextPart]


class InputCustomCall(Wire, tag_field="type", tag="custom_tool_call"):
    """A call of a custom tool that the model made before."""

    rules: ClassVar[Mapping[str, Rule]] = {
        **ITEM,
        "namespace": Only((), "call tools by their names"),
        "async": Only((False,), "calls are made when the answer is there"),
    }

    call_id: str
    name: str
    input: str


class InputCustomOutput(Wire, tag_field="type", tag="custom_tool_call_output"):
    """What came of it."""

    rules: ClassVar[Mapping[str, Rule]] = ITEM

    call_id: str
    output: str | list[TextPart]


class ReasoningText(Wire):
    """Thoughts that come back."""

    text: str
    type: Literal["reasoning_text", "summary_text"] | None = None


class InputReasoning(Wire, tag_field="type", tag="reasoning"):
    """What the model thought before: shown to it where its template does."""

    rules: ClassVar[Mapping[str, Rule]] = {**ITEM, "encrypted_content": Only(("",), "thoughts are read from content")}

    summary: list[ReasoningText] | None = None
    content: list[ReasoningText] | None = None


InputItem = InputMessage | InputCall | InputCallOutput | InputCustomCall | InputCustomOutput | InputReasoning


class ReasoningOptions(Wire):
    """How much to think."""

    rules: ClassVar[Mapping[str, Rule]] = {
        "summary": Taken("thoughts are given whole"),
        "generate_summary": Taken("thoughts are given whole"),
        "context": Taken("the template says which thoughts it shows"),
        "mode": Only(("standard",), "say it by effort"),
    }

    effort: ReasoningEffort | None = None


class ResponseFormat(Wire):
    """What the input of a custom tool may be."""

    type: Literal["text", "grammar"]
    syntax: Literal["lark", "regex"] | None = None
    definition: str | None = None

    def __post_init__(self) -> None:
        if self.type == "grammar" and (self.syntax is None or self.definition is None):
            raise ValueError("a format of type grammar has a syntax and a definition")

    @property
    def told(self) -> CustomFormat:
        """As chats say it."""
        if self.syntax is None or self.definition is None:
            return CustomFormat(type="text")
        return CustomFormat(type="grammar", grammar=GrammarText(syntax=self.syntax, definition=self.definition))


class ResponseTool(Wire):
    """A tool that is on offer: a function, or one that is given a text."""

    rules: ClassVar[Mapping[str, Rule]] = {
        "defer_loading": Only((False,), "tools are told at the beginning"),
        "allowed_callers": Only((["direct"],), "tools are called by the model"),
        "cache_control": COMING_BACK["cache_control"],
        "output_schema": Taken("what a call gives back is shown as it comes"),
        "async": Only((False,), "calls are made when the answer is there"),
    }

    type: str | None = None
    name: ToolName | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: ResponseFormat | None = None

    def __post_init__(self) -> None:
        if self.type not in (None, "function", "custom"):
            raise ValueError(
                f"tools of type {self.type} are not run by this server: run them yourself, as functions"
                + (" (stemma.McpServers does so, and stemma chat --mcp)" if self.type == "mcp" else "")
            )
        if self.name is None:
            raise ValueError("a tool has a name")

    @property
    def told(self) -> Tool:
        """As chats say it."""
        assert self.name is not None
        if self.type == "custom":
            told = None if self.format is None else self.format.told
            return Tool(custom=CustomSpec(name=self.name, description=self.description, format=told))
        function = FunctionSpec(
            name=self.name, description=self.description, parameters=self.parameters, strict=self.strict
        )
        return Tool(function=function)


class NamedChoice(Wire):
    """This tool must be called, or those that are allowed may be."""

    type: Literal["function", "custom", "allowed_tools"] | None = None
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[AllowedTool], Meta(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if self.type == "allowed_tools":
            if self.mode is None or self.tools is None:
                raise ValueError("allowed_tools has a mode and tools")
        elif self.name is None:
            raise ValueError("a tool that must be called has a name")


class PlainFormat(Wire, tag_field="type", tag="text"):
    """Anything."""


class ObjectFormat(Wire, tag_field="type", tag="json_object"):
    """Some JSON object."""


class SchemaFormat(Wire, tag_field="type", tag="json_schema"):
    """JSON of one schema."""

    schema: dict[str, Any]
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class TextOptions(Wire):
    """How the text must look."""

    rules: ClassVar[Mapping[str, Rule]] = {"verbosity": OPENAI_ANSWERS["verbosity"]}

    format: PlainFormat | ObjectFormat | SchemaFormat | None = None


class ResponsesStreamOptions(Wire):
    """Options of a stream."""

    rules: ClassVar[Mapping[str, Rule]] = {
        "include_obfuscation": Taken("events are not padded"),
        "include_usage": Taken("the last event has it"),
    }


class ConversationRef(Wire):
    """A conversation that is kept."""

    id: str


class ResponsesRequest(SamplingRequest, kw_only=True):
    """A turn to answer. It goes on from a response or a conversation that is kept, or from what is in `input`.

    store: whether it is kept, as it is if nothing is said. background: it is answered at once, with what to ask for.
    truncation: "auto" leaves out the oldest turns of what is too long.
    """

    rules: ClassVar[Mapping[str, Rule]] = {
        **OPENAI_ANSWERS,
        "max_tool_calls": Taken("there are no tools of the server's own"),
        "context_management": Only(([],), "leave out of input what the model need not see"),
        "prompt": Only((), "prompts are not kept: send the text in input"),
        "enable_response_messages": Only((False,), "the answer has its own form"),
        "previous_input_messages": Only((), "send the conversation in input"),
        "access_programs": Taken("the model is the same for all"),
        "image": Taken("there is only text"),
        "background_options": Taken("they belong to background"),
        "include_reasoning": Only((True,), "leave the items of type reasoning unread"),
        "structured_outputs": Only((), "say it by text.format"),
    }

    input: str | list[dict[str, Any]] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    background: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    instructions: str | None = None
    max_output_tokens: Count | None = None
    top_logprobs: NumLogprobs | None = None
    stream_options: ResponsesStreamOptions | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class ConversationRequest(Wire):
    """A conversation to keep."""

    items: list[dict[str, Any]] | None = None
    metadata: dict[str, str] | None = None


class ItemsRequest(Wire):
    """Items to add to a conversation."""

    rules: ClassVar[Mapping[str, Rule]] = {"include": Taken("items are shown whole")}

    items: list[dict[str, Any]]


class MetadataRequest(Wire):
    """What is noted about an object."""

    metadata: dict[str, str] | None = None


class InputTokensRequest(ResponsesRequest):
    """A turn whose prompt is to be counted; fields that are of the answer have no effect."""

    rules: ClassVar[Mapping[str, Rule]] = {"personality": Only((), "say it in instructions")}


class CompactRequest(Wire):
    """A conversation to compact."""

    rules: ClassVar[Mapping[str, Rule]] = {
        **ACCOUNTING,
        **dict.fromkeys(
            ("input", "instructions", "previous_response_id", "image"), Taken("conversations are not compacted")
        ),
    }

    model: str | None = None


def conversation_id(body: ResponsesRequest) -> str | None:
    """The conversation that a request names, if any."""
    return body.conversation.id if isinstance(body.conversation, ConversationRef) else body.conversation
