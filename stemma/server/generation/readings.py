"""Readings for an HTTP request: started together, ended with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine import Completion, RequestOptions
from stemma.server.generation.generations import completed, errors_of_prompt_named
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request

MAX_TEXTS = 2048
"""Of one request: OpenAI's limit."""

READ = ("prompt_tokens", "cached_tokens", "replayed_tokens", "prefilled_tokens", "recomputed_tokens")
"""What there is to account for of a text from which nothing goes on."""


class Asked(Protocol):
    """What all requests that only read texts have in common."""

    @property
    def model(self) -> str | None: ...
    @property
    def cache_salt(self) -> str | None: ...
    @property
    def priority(self) -> int | None: ...
    @property
    def ttft_ms(self) -> float | None: ...


def request_options(context: RequestContext[Service, Any], body: Asked) -> dict[str, Any]:
    """What the engine is to know of where a request comes from, and which adapter it names. Raises ApiError (404)."""
    return {
        "namespace": context.tenant.namespace(body.cache_salt),
        "lora": context.service.lora_of(body.model),
        "priority": body.priority or 0,
        "ttft_ms": body.ttft_ms,
    }


def check_count(num_texts: int, param: str) -> None:
    """Raises ApiError for more than one request may have, and for none."""
    if not 1 <= num_texts <= MAX_TEXTS:
        raise bad_request(f"a request may have 1 to {MAX_TEXTS} texts; this has {num_texts}", param)


async def read(
    context: RequestContext[Service, Any], prompts: Sequence[Sequence[int]], options: RequestOptions, param: str
) -> list[Completion]:
    """What is read off these prompts, in order. Raises ApiError, InvalidRequest or PromptTooLong, which name `param`
    where a prompt is at fault."""
    service = context.service
    context.cleanup.enter_context(service.limiter.enter(context.tenant.name, len(prompts)))
    with errors_of_prompt_named(param):
        generations = service.engine.submit_all(prompts, **options)
    context.cleanup.enter_context(service.under_way(generations))
    context.record.submitted(generations, options.get("lora") or service.model_name)
    return await completed(generations)


def usage_report(usages: Sequence[Usage]) -> dict[str, Any]:
    """Of all the texts of a request. `stemma` says it of each."""
    total = sum(usages, Usage())
    return {
        "prompt_tokens": total.prompt_tokens,
        "total_tokens": total.prompt_tokens,
        "prompt_tokens_details": {"cached_tokens": total.cached_tokens},
        "stemma": {"texts": [{name: getattr(usage, name) for name in READ} for usage in usages]},
    }
