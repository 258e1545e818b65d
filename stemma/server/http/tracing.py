"""Requests as spans of OpenTelemetry, by its conventions for HTTP servers and generative AI. No span has a text.

A request is a span of kind SERVER; where its time went are spans below it: compile, queue, prefill, decode. They are
made when it has ended, with the times at which they were, so that nothing of it happens between two tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode, Tracer

from stemma.server.http.record import RequestRecord

OPERATIONS = (("embed", "embeddings"), ("chat", "chat"), ("messages", "chat"), ("responses", "chat"))
ASKED = ("temperature", "top_p", "top_k", "max_tokens", "seed", "frequency_penalty", "presence_penalty")
"""Of a body: fields that are attributes by the same name. Others mean the same under other names."""
OTHER_NAMES = (("max_completion_tokens", "max_tokens"), ("max_output_tokens", "max_tokens"), ("n", "choice.count"))
SERVER_ERRORS = 500


def asked_of(body: object) -> dict[str, Any]:
    """What a body asks, as attributes: numbers, and the model's name. Those of SGLang and Ollama are one level down."""
    inner = getattr(body, "sampling_params", None) or getattr(body, "options", None)
    found: dict[str, Any] = {}
    for each in (body, inner):
        for name, told in (*((name, name) for name in ASKED), *OTHER_NAMES):
            value = each.get(name) if isinstance(each, Mapping) else getattr(each, name, None)
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[f"gen_ai.request.{told}"] = value
    model = getattr(body, "model", None)
    if isinstance(model, str):
        found["gen_ai.request.model"] = model[:256]
    return found


def finish(span: Span, record: RequestRecord, tracer: Tracer) -> None:
    """Tell a span what is known at the end of its request."""
    if record.status:
        span.set_attribute("http.response.status_code", record.status)
    if record.status >= SERVER_ERRORS:
        span.set_attribute("error.type", str(record.status))
        span.set_status(Status(StatusCode.ERROR))
    if not record.submitted_at or not span.is_recording():
        return
    span.set_attributes({**_of_generation(record), **record.asked})
    above = trace.set_span_in_context(span)
    for stage in record.stages():
        below = tracer.start_span(stage.name, above, start_time=stage.begin)
        if stage.phases is not None:
            seconds = stage.phases._asdict().items()
            below.set_attributes({f"stemma.{phase}_seconds": taken for phase, taken in seconds})
        below.end(stage.end)


def _of_generation(record: RequestRecord) -> dict[str, Any]:
    usage, timing = record.usage, record.timing
    operation = next((told for part, told in OPERATIONS if part in record.path), "text_completion")
    told: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "stemma",
        "gen_ai.response.model": record.model,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.response.finish_reasons": [completion.finish_reason for completion in record.completions],
        "stemma.replayed_tokens": usage.replayed_tokens,
        "stemma.prefilled_tokens": usage.prefilled_tokens,
        "stemma.decoded_tokens": usage.decoded_tokens,
        "stemma.jumped_tokens": usage.jumped_tokens,
    }
    if record.answer_id is not None:
        told["gen_ai.response.id"] = record.answer_id
    if timing is not None:
        told["gen_ai.response.time_to_first_chunk"] = timing.ttft
    return told
