"""Requests to /v1/embeddings, /v1/rerank and /v1/score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from stemma.server.wire.common import Count, Priority, Salt
from stemma.server.wire.fields import Only, Rule, Taken, Wire
from stemma.server.wire.known import ACCOUNTING, SGLANG


class PoolingRequest(Wire, kw_only=True):
    """What they have in common. cache_salt, priority, ttft_ms: as of chats."""

    rules: ClassVar[Mapping[str, Rule]] = {
        **ACCOUNTING,
        **SGLANG,
        "add_special_tokens": Only((True,), "give token ids"),
        "truncate_prompt_tokens": Only((), "send shorter texts"),
        "truncation_side": Taken("texts are never cut"),
        "request_id": Taken("an answer has an id of its own"),
        "activation": Only((True,), "scores are probabilities"),
        "use_activation": Only((True,), "scores are probabilities"),
        "softmax": Only((True,), "scores are probabilities"),
        "mm_processor_kwargs": Taken("there is only text"),
        "padding": Taken("nothing is padded"),
    }

    model: str | None = None
    cache_salt: Salt | None = None
    priority: Priority | None = None
    ttft_ms: float | None = None


class EmbeddingsRequest(PoolingRequest):
    """Texts, or token ids, to embed.

    Beyond OpenAI's fields: pooling and normalize, which else are as the model's files say; prompt_name: the text among
    these that is put before.
    """

    rules: ClassVar[Mapping[str, Rule]] = {
        "input_type": Only((), "say it by prompt_name"),
        "task": Only((), "say it by prompt_name"),
        "embed_overrides": Only((), "give texts"),
        "embed_override_token_id": Only((), "give texts"),
        "embed_dtype": Only(("float32",), "numbers have 32 bits"),
        "endianness": Only(("native", "little"), "numbers are little-endian"),
    }

    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None
    pooling: Literal["last", "mean"] | None = None
    normalize: bool | None = None
    prompt_name: str | None = None


class Document(Wire):
    """A document as an object."""

    text: str


Documents = Annotated[list[str | Document], Meta(min_length=1)]
Texts = str | Annotated[list[str], Meta(min_length=1)]


class RerankRequest(PoolingRequest):
    """Documents to put into the order in which they answer the query, best first.

    top_n: how many of them come back; 0 is all, as vLLM has it. instruction: what they are wanted for.
    """

    rules: ClassVar[Mapping[str, Rule]] = {
        "max_tokens_per_doc": Only((), "send shorter documents"),
        "max_chunks_per_doc": Only((1,), "send chunks as documents"),
        "max_tokens_per_query": Only((), "send a shorter query"),
        "chat_template_kwargs": Only(({},), "the pair is written in the model's own form"),
        "instruct": Only((), "say it by instruction"),
        "rank_fields": Only((["text"],), "documents have a text"),
    }

    query: str
    documents: Documents
    top_n: Annotated[int, Meta(ge=0)] | None = None
    return_documents: bool | None = None
    instruction: str | None = None


class ScoreRequest(PoolingRequest):
    """Pairs to score: each text of one side with its counterpart, or one text with all."""

    rules: ClassVar[Mapping[str, Rule]] = {
        **dict.fromkeys(
            ("query", "items", "label_token_ids", "item_first", "return_token_logprobs", "return_pooled_hidden_states",
             "item_embed_overrides", "query_embed_overrides", "embed_override_token_id", "score_extraction_token"),
            Only((), "say it by text_1 and text_2"),
        ),
        "apply_softmax": Only((True,), "scores are probabilities"),
        "temperature": Only((1,), "scores are the model's own"),
    }  # fmt: skip

    text_1: Texts
    text_2: Texts
    instruction: str | None = None
