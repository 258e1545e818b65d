"""Fields that several requests share. Pure data as it comes over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from stemma.server.wire.fields import Rule, Taken, Wire
from stemma.server.wire.known import ACCOUNTING, LLAMA_CPP, SAMPLERS_OF_PEERS, SGLANG, SGLANG_TEXTS, VLLM, VLLM_FORMS

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Priority = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
NextUseName = Literal["never", "unknown", "soon"]
NumChoices = Annotated[int, Meta(ge=1, le=1024)]
NumLogprobs = Annotated[int, Meta(ge=0, le=20)]
Salt = Annotated[str, Meta(max_length=256)]
Stop = str | Annotated[list[str], Meta(max_length=64)]


class StreamOptions(Wire):
    """include_usage: a last chunk carries the usage; with continuous_usage_stats (vLLM's) every chunk, as it stands."""

    rules: ClassVar[Mapping[str, Rule]] = {"include_obfuscation": Taken("events are not padded")}

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class FunctionSpec(Wire):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class JsonSchemaSpec(Wire):
    """A named schema. `strict` is always honoured: the output is constrained whatever it says."""

    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | bool | None = None
    strict: bool | None = None


class TextFormat(Wire, tag_field="type", tag="text"):
    """Anything."""


class JsonObjectFormat(Wire, tag_field="type", tag="json_object"):
    """Some JSON object. schema: JSON of this schema, as llama.cpp's clients ask for it."""

    schema: dict[str, Any] | None = None


class JsonSchemaFormat(Wire, tag_field="type", tag="json_schema"):
    """JSON of one schema."""

    json_schema: JsonSchemaSpec


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class StructuredOutputs(Wire):
    """vLLM's name for the form of an output: one of these."""

    rules: ClassVar[Mapping[str, Rule]] = VLLM_FORMS

    json: str | dict[str, Any] | None = None
    json_object: bool | None = None
    regex: str | None = None
    choice: Annotated[list[str], Meta(min_length=1)] | None = None
    grammar: str | None = None


class SamplingRequest(Wire):
    """What all requests for a text have in common.

    Beyond OpenAI's fields: top_k, min_p, repetition_penalty, stop_token_ids, ignore_eos, min_tokens,
    include_stop_str_in_output; skip_special_tokens: false shows them by their names; truncate_prompt_tokens: only the
    prompt's last tokens count, -1 for as many as the context has room for; cache_salt: a separate part of
    the caller's own cache namespace; priority: larger goes first; ttft_ms: milliseconds within which the first token
    must come, or the answer is 503 as soon as that is certain; next_use: what is known of the next use of what is
    computed for it, "soon" or "never", a hint to the eviction; drafts: false guesses no tokens ahead.
    """

    rules: ClassVar[Mapping[str, Rule]] = {
        **ACCOUNTING,
        **VLLM,
        **SGLANG,
        **SGLANG_TEXTS,
        **LLAMA_CPP,
        **SAMPLERS_OF_PEERS,
    }

    model: str | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=256)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Count | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    cache_salt: Salt | None = None
    priority: Priority | None = None
    ttft_ms: float | None = None
    next_use: NextUseName | None = None
    drafts: bool | None = None


class GenerationRequest(SamplingRequest):
    """What chat and plain completions have in common.

    Beyond OpenAI's fields: regex, grammar: the form of the output, which vLLM's clients call structured_outputs or
    guided_* and SGLang's ebnf; return_token_ids: token ids of prompt and answer are reported; prompt_token_ids: the
    prompt itself, as token ids; shown_token_ids: special tokens that the text shows by their names; finish_in_time: a
    form ends by its shortest completion before max_tokens would cut it.
    """

    n: NumChoices | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    regex: str | None = None
    grammar: str | None = None
    ebnf: str | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str], Meta(min_length=1)] | None = None
    guided_grammar: str | None = None
    response_format: ResponseFormat | None = None
    return_token_ids: bool | None = None
    prompt_token_ids: list[TokenId] | None = None
    shown_token_ids: Annotated[list[TokenId], Meta(max_length=256)] | None = None
    finish_in_time: bool | None = None
