"""Requests of Ollama's clients. Streams are what they get unless they say otherwise; all of them name a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from stemma.server.ollama.known import CHAT, EMBED, GENERATE, MESSAGE, OPTIONS, SHOW, TOOL, TOOL_CALL, TRANSFER
from stemma.server.wire.common import Count, FunctionSpec, NextUseName, NumLogprobs, Priority, Salt, Seed, Stop, TokenId
from stemma.server.wire.fields import Rule, Wire
from stemma.server.wire.tools import NamedFunction

ROLES = ("system", "user", "assistant", "tool")

Think = bool | Literal["low", "medium", "high", "max"]


class OllamaOptions(Wire):
    """`options`: how to sample. num_predict: tokens of the answer; a negative number is no limit of the caller's."""

    rules: ClassVar[Mapping[str, Rule]] = OPTIONS

    temperature: float | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: Seed | None = None
    num_predict: Annotated[int, Meta(ge=-2, le=2**31 - 1)] | None = None
    stop: Stop | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class OllamaRequest(Wire):
    """What chats and texts have in common.

    format: "json", or a JSON schema. Beyond Ollama's fields, as in every API here: cache_salt, priority, ttft_ms,
    next_use, drafts.
    """

    model: str = ""
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: OllamaOptions | None = None
    think: Think | None = None
    logprobs: bool | None = None
    top_logprobs: NumLogprobs | None = None
    cache_salt: Salt | None = None
    priority: Priority | None = None
    ttft_ms: float | None = None
    next_use: NextUseName | None = None
    drafts: bool | None = None

    def __post_init__(self) -> None:
        if self.stream is None:
            self.stream = True


class OllamaFunction(Wire):
    """A call that the model made. Its arguments are an object."""

    rules: ClassVar[Mapping[str, Rule]] = TOOL_CALL

    name: str
    arguments: dict[str, Any] | None = None


class OllamaToolCall(Wire):
    """One of an assistant message's calls. Older clients send no id back."""

    rules: ClassVar[Mapping[str, Rule]] = TOOL_CALL

    function: OllamaFunction
    id: str | None = None


class OllamaMessage(Wire):
    """One message; the result of a call names its function, or the call's id."""

    rules: ClassVar[Mapping[str, Rule]] = MESSAGE

    role: str
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[OllamaToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None

    def __post_init__(self) -> None:
        self.role = self.role.lower()
        if self.role not in ROLES:
            raise ValueError(f"a role is one of {', '.join(ROLES)}")


class OllamaTool(Wire):
    """A function that is on offer."""

    rules: ClassVar[Mapping[str, Rule]] = TOOL

    function: FunctionSpec
    type: str | None = None


class OllamaToolChoice(Wire):
    """This function must be called: its name, as in OpenAI's responses or in its chats."""

    type: Literal["function"] | None = None
    name: str | None = None
    function: NamedFunction | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.function is None):
            raise ValueError("a tool_choice has a name")


class OllamaChatRequest(OllamaRequest):
    """POST /api/chat. Without messages it asks whether the model is there.

    Beyond Ollama's fields: tool_choice; and what Vercel's provider says here instead of in `options`: temperature,
    top_p, max_output_tokens.
    """

    rules: ClassVar[Mapping[str, Rule]] = CHAT

    messages: list[OllamaMessage] | None = None
    tools: list[OllamaTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | OllamaToolChoice | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: Count | None = None


class OllamaGenerateRequest(OllamaRequest):
    """POST /api/generate: a question without a chat, or with raw a text to go on with.

    context: what an earlier answer gave as its own: the question is asked behind it.
    """

    rules: ClassVar[Mapping[str, Rule]] = GENERATE

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    context: list[TokenId] | None = None


class OllamaEmbedRequest(Wire):
    """POST /api/embed. truncate: texts that are too long lose their ends, unless this is false."""

    rules: ClassVar[Mapping[str, Rule]] = EMBED

    model: str = ""
    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: Count | None = None
    cache_salt: Salt | None = None
    priority: Priority | None = None
    ttft_ms: float | None = None


class OllamaEmbeddingsRequest(Wire):
    """POST /api/embeddings, which /api/embed came after."""

    rules: ClassVar[Mapping[str, Rule]] = EMBED

    model: str = ""
    prompt: str | None = None
    cache_salt: Salt | None = None
    priority: Priority | None = None
    ttft_ms: float | None = None


class OllamaShowRequest(Wire):
    """POST /api/show. name: what older clients call `model`."""

    rules: ClassVar[Mapping[str, Rule]] = SHOW

    model: str = ""
    name: str | None = None


class OllamaTransferRequest(Wire):
    """What would change which models there are: pull, push, create, delete. name: what older clients call `model`."""

    rules: ClassVar[Mapping[str, Rule]] = TRANSFER

    model: str = ""
    name: str | None = None
    stream: bool | None = None


class OllamaCopyRequest(Wire):
    """POST /api/copy."""

    source: str = ""
    destination: str = ""
