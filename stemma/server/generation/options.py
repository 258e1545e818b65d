"""Fields of a request to the engine's options. Names and defaults are OpenAI's, where the model recommends
nothing; the engine checks the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from stemma.runtime.engine import Completion, RequestOptions
from stemma.server.generation.service import Service
from stemma.server.http.errors import bad_request
from stemma.server.http.keys import Tenant
from stemma.server.wire.common import GenerationRequest, StreamOptions

OPENAI_TEMPERATURE = 1.0


def sampling_options(body: GenerationRequest, tenant: Tenant, service: Service) -> RequestOptions:
    """Everything but the greatest length, the log-probabilities and the form of the output. Raises ApiError.

    What the request leaves out of the sampling is the model's own. The adapter is the one that it names as its model.
    """
    asked: dict[str, Any] = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": 0 if body.top_k == -1 else body.top_k,
        "min_p": body.min_p,
        "repetition_penalty": body.repetition_penalty,
    }
    if body.top_p == 0:  # the most likely token is always kept
        asked |= {"top_p": None, "top_k": 1}
    sampling = {name: value for name, value in asked.items() if value is not None}
    options = RequestOptions(
        namespace=tenant.namespace(body.cache_salt),
        lora=service.lora_of(body.model),
        priority=body.priority or 0,
        ttft_ms=body.ttft_ms,
        next_use=body.next_use or "unknown",
        drafts=body.drafts is not False,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        seed=body.seed,
        logit_bias=_biases(body.logit_bias or {}),
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        stop_token_ids=body.stop_token_ids or [],
        ignore_eos=bool(body.ignore_eos),
        min_tokens=body.min_tokens or 0,
        include_stop=bool(body.include_stop_str_in_output),
        finish_in_time=bool(body.finish_in_time),
        shown_tokens=shown_tokens(body, service),
    )
    return cast(
        RequestOptions,
        {"temperature": OPENAI_TEMPERATURE, "top_p": 1.0, **service.engine.recommended, **sampling, **options},
    )


def shown_tokens(body: GenerationRequest, service: Service) -> Sequence[int]:
    """Special tokens that the text shows by their names."""
    every = body.skip_special_tokens is False
    return list(service.tokenizer.special.values()) if every else body.shown_token_ids or []


def stop_reason(completion: Completion, body: GenerationRequest) -> str | int | None:
    """As vLLM says it: the request's stop string or token that ended a text; None for the model's own end."""
    if completion.stopped_by is not None or completion.finish_reason != "stop" or not completion.tokens:
        return completion.stopped_by
    last = completion.tokens[-1]
    return last if last in (body.stop_token_ids or ()) else None


def stream_options(body: GenerationRequest) -> StreamOptions:
    """Raises ApiError for options without a stream."""
    if body.stream_options is not None and not body.stream:
        raise bad_request("stream_options is for streams: set stream to true", "stream_options")
    return body.stream_options or StreamOptions()


def _biases(given: dict[str, float]) -> dict[int, float]:
    if not all(key.isascii() and key.isdigit() and len(key) < 10 for key in given):
        raise bad_request("the keys of logit_bias are token ids in decimal digits", "logit_bias")
    return {int(key): bias for key, bias in given.items()}
