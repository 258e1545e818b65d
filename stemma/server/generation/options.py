"""Fields of a request to the engine's options. Names and defaults are OpenAI's, where the model recommends
nothing; the engine checks the values."""

from __future__ import annotations

from typing import Any, cast

from stemma.runtime.engine import RequestOptions
from stemma.server.http.errors import bad_request
from stemma.server.http.keys import Tenant
from stemma.server.wire.common import GenerationRequest, StreamOptions

OPENAI_TEMPERATURE = 1.0


def sampling_options(
    body: GenerationRequest, tenant: Tenant, recommended: RequestOptions, lora: str | None
) -> RequestOptions:
    """Everything but the lengths, the log-probabilities and the form of the output. Raises ApiError.

    recommended: the model's own sampling, for what the request leaves out. lora: the adapter that it names.
    """
    asked: dict[str, Any] = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": 0 if body.top_k == -1 else body.top_k,
        "min_p": body.min_p,
        "repetition_penalty": body.repetition_penalty,
    }
    sampling = {name: value for name, value in asked.items() if value is not None}
    options = RequestOptions(
        namespace=tenant.namespace(body.cache_salt),
        lora=lora,
        priority=body.priority or 0,
        next_use=body.next_use or "unknown",
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        seed=body.seed,
        logit_bias=_biases(body.logit_bias or {}),
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        stop_token_ids=body.stop_token_ids or [],
        ignore_eos=bool(body.ignore_eos),
        finish_in_time=bool(body.finish_in_time),
        shown_tokens=body.shown_token_ids or [],
    )
    return cast(RequestOptions, {"temperature": OPENAI_TEMPERATURE, "top_p": 1.0, **recommended, **sampling, **options})


def stream_options(body: GenerationRequest) -> StreamOptions:
    """Raises ApiError for options without a stream."""
    if body.stream_options is not None and not body.stream:
        raise bad_request("stream_options is for streams: set stream to true", "stream_options")
    return body.stream_options or StreamOptions()


def _biases(given: dict[str, float]) -> dict[int, float]:
    if not all(key.isascii() and key.isdigit() and len(key) < 10 for key in given):
        raise bad_request("the keys of logit_bias are token ids in decimal digits", "logit_bias")
    return {int(key): bias for key, bias in given.items()}
