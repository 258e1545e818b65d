"""Requests to /v1/completions and to /v1/responses, of whose API only the stateless part is here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from stemma.server.wire.chat import MAX_CALLS, ReasoningEffort, TextPart, Tool
from stemma.server.wire.common import (
    Count,
    GenerationRequest,
    NextUseName,
    NumChoices,
    NumLogprobs,
    Priority,
    Salt,
    Seed,
    Wire,
)

FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]


class Calling(Wire):
    """What a chat's answer may call. required: it must."""

    tools: Annotated[list[Tool], Meta(min_length=1)]
    max_calls: Annotated[int, Meta(ge=1, le=MAX_CALLS)] = MAX_CALLS
    required: bool = False


class CompletionRequest(GenerationRequest):
    """A text to continue, or several, each as text or as token ids.

    logprobs: this many of the most likely tokens at each position. echo: the prompt is part of the answer.
    prompt_logprobs: as vLLM's: the prompt's own log-probabilities, with this many alternatives; scored_from: beginning
    with this token of it (1 if left out), so that what stands before is looked up in the cache. behind_thoughts: the
    prompt is a chat's, as token ids, and the form binds what the model says when it has thought. calling: such a prompt
    tells of functions; the answer calls them in the model's own form, or says what the form binds.
    """

    prompt: str | list[Any] | None = None
    best_of: NumChoices | None = None
    echo: bool | None = None
    logprobs: NumLogprobs | None = None
    prompt_logprobs: NumLogprobs | None = None
    scored_from: Count | None = None
    behind_thoughts: bool | None = None
    calling: Calling | None = None
    suffix: None = None


class OutputText(Wire):
    """A piece of an answer that comes back."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None
    logprobs: list[Any] | None = None


class InputMessage(Wire, tag_field="type", tag="message"):
    """A message, the caller's or one that was answered before."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[dict[str, Any]]
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class InputCall(Wire, tag_field="type", tag="function_call"):
    """A call that the model made before."""

    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None
    namespace: None = None


class InputCallOutput(Wire, tag_field="type", tag="function_call_output"):
    """What came of a call."""

    call_id: str
    output: str | list[TextPart]
    id: str | None = None
    status: str | None = None


class ReasoningText(Wire):
    """Thoughts that come back."""

    text: str
    type: Literal["reasoning_text", "summary_text"] = "reasoning_text"


class InputReasoning(Wire, tag_field="type", tag="reasoning"):
    """What the model thought before: shown to it where its template does."""

    id: str | None = None
    summary: list[ReasoningText] | None = None
    content: list[ReasoningText] | None = None
    status: str | None = None
    encrypted_content: None = None


InputItem = InputMessage | InputCall | InputCallOutput | InputReasoning


class ReasoningOptions(Wire):
    """How much to think. Thoughts are given whole, so a summary of them is never made."""

    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: None = None


class ResponseTool(Wire):
    """A function that is on offer."""

    name: FunctionName
    type: Literal["function"] = "function"
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedChoice(Wire):
    """This function must be called."""

    name: str
    type: Literal["function"] = "function"


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

    format: PlainFormat | ObjectFormat | SchemaFormat | None = None


class ResponsesStreamOptions(Wire):
    """Options of a stream."""

    include_obfuscation: Literal[False] | None = None


class ResponsesRequest(Wire, kw_only=True):
    """A turn to answer. Nothing is stored: the whole conversation comes in `input`."""

    input: str | list[dict[str, Any]]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: NumLogprobs | None = None
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    store: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    previous_response_id: None = None
    conversation: None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    seed: Seed | None = None
    cache_salt: Salt | None = None
    priority: Priority | None = None
    next_use: NextUseName | None = None
