"""POST /generate as it comes over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from stemma.server.wire.common import Count, NextUseName, NumChoices, NumLogprobs, Priority, Salt, Stop, TokenId
from stemma.server.wire.fields import Rule, Wire
from stemma.server.wire.known import SGLANG, SGLANG_GENERATE, SGLANG_SAMPLING


class NativeSampling(Wire):
    """`sampling_params` of /generate."""

    rules: ClassVar[Mapping[str, Rule]] = SGLANG_SAMPLING

    max_new_tokens: Count | None = None
    min_new_tokens: Count | None = None
    n: NumChoices | None = None
    stop: Stop | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=256)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    sampling_seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    logit_bias: dict[str, float] | None = None
    ignore_eos: bool | None = None
    no_stop_trim: bool | None = None
    skip_special_tokens: bool | None = None
    regex: str | None = None
    ebnf: str | None = None
    json_schema: str | dict[str, Any] | None = None


class GenerateRequest(Wire):
    """POST /generate. Lists mean as many answers. lora_path: the name of an adapter of the server's.

    Beyond SGLang's fields, as in every API here: ttft_ms, next_use, drafts.
    """

    rules: ClassVar[Mapping[str, Rule]] = {**SGLANG, **SGLANG_GENERATE}

    text: str | list[str] | None = None
    input_ids: list[Any] | None = None
    sampling_params: NativeSampling | None = None
    stream: bool | None = None
    return_logprob: bool | None = None
    logprob_start_len: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    top_logprobs_num: NumLogprobs | None = None
    return_text_in_logprobs: bool | None = None
    rid: str | None = None
    priority: Priority | None = None
    ttft_ms: float | None = None
    next_use: NextUseName | None = None
    drafts: bool | None = None
    extra_key: Salt | None = None
    lora_path: str | None = None
