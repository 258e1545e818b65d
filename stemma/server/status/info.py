"""What a server says of itself: models, health, version, and what gateways ask for."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.responses import Response

from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.errors import EngineClosed
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import unavailable
from stemma.server.http.keys import Tenant
from stemma.server.http.replies import json_reply
from stemma.version import VERSION


async def about(context: RequestContext[Service, None]) -> Response:
    """GET /: what is here, for whoever opens the address that the server prints."""
    places = {"api": "/v1", "tree": "/tree", "openapi": "/openapi.json", "health": "/health", "metrics": "/metrics"}
    return json_reply({"name": "stemma", "version": VERSION, **places})


async def models(context: RequestContext[Service, None]) -> Response:
    """GET /v1/models: the model, by its name and its alias, and its adapters, whose parent it is."""
    service = context.service
    return json_reply({"object": "list", "data": [_model(service, name) for name in service.listed_names]})


async def model(context: RequestContext[Service, None]) -> Response:
    """GET /v1/models/{model}."""
    service, asked = context.service, context.request.path_params["model"]
    return json_reply(_model(service, asked if asked in service.listed_names else service.name_of(asked)))


def _model(service: Service, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(service.started),
        "owned_by": "stemma",
        "root": service.engine.loaded.name,
        "parent": service.model_name if name in service.loras else None,
        "max_model_len": service.engine.context_length,
    }


async def health(context: RequestContext[Service, None]) -> Response:
    """GET /health: 200 as long as the engine takes requests."""
    if context.service.stopping.is_set():
        raise unavailable("the server is shutting down")
    try:
        await context.service.work(context.service.engine.with_cache, lambda cache: None)
    except EngineClosed as error:
        raise unavailable(str(error)) from error
    return json_reply({"status": "ok"})


async def version(context: RequestContext[Service, None]) -> Response:
    """GET /version."""
    return json_reply({"version": VERSION})


async def model_info(context: RequestContext[Service, None]) -> Response:
    """GET /model_info and /get_model_info, as SGLang's clients read it."""
    service = context.service
    config = service.engine.loaded.config
    template = service.engine.loaded.chat_template
    return json_reply(
        {
            "model_path": service.model_name,
            "served_model_name": service.model_name,
            "tokenizer_path": service.model_name,
            "is_generation": True,
            "has_chat_template": template is not None,
            "model_type": config.family,
            "architectures": [config.family],
            "vocab_size": config.vocab_size,
            "max_context_length": service.engine.context_length,
            "max_model_len": service.engine.context_length,
            "weight_version": "default",
            "eos_token_ids": list(service.engine.loaded.generation.eos_ids),
            "bos_token_id": service.tokenizer.bos_id,
        }
    )


async def server_info(context: RequestContext[Service, None]) -> Response:
    """GET /server_info and /get_server_info."""
    service = context.service
    stats = await service.work(service.engine.stats)
    engine = service.engine.config
    return json_reply(
        {
            "version": VERSION,
            "model_path": service.model_name,
            "served_model_name": service.model_name,
            "tokenizer_path": service.model_name,
            "context_length": service.engine.context_length,
            "max_running_requests": engine.max_running,
            "max_total_num_tokens": stats.cache.total * engine.block_size,
            "block_size": engine.block_size,
            "page_size": engine.block_size,
            "tp_size": 1,
            "dp_size": 1,
            "disaggregation_mode": "null",
            "is_embedding": False,
            "prefix_cache": engine.prefix_cache,
            "num_running": stats.num_running,
            "num_waiting": stats.num_waiting,
        }
    )


async def loads(context: RequestContext[Service, None]) -> Response:
    """GET /v1/loads: how busy each replica behind this address is; there is one."""
    service = context.service
    stats = await service.work(service.engine.stats)
    block_size, cache = service.engine.config.block_size, stats.cache
    used, hit_rate = cache.leased * block_size, cache.hit_rate
    if not service.sees_totals(context.tenant):  # what others' requests are is theirs: a tenant is told of its own
        usage = service.counts.of_tenants[context.tenant.name].usage
        used = await service.work(service.engine.with_scheduler, partial(_num_used, context.tenant))
        hit_rate = usage.cached_tokens / max(1, usage.prompt_tokens)
    load = {
        "dp_rank": 0,
        "num_running_reqs": stats.num_running,
        "num_waiting_reqs": stats.num_waiting,
        "num_total_reqs": stats.num_running + stats.num_waiting,
        "num_used_tokens": used,
        "num_tokens": used,
        "max_total_num_tokens": cache.total * block_size,
        "token_usage": used / (cache.total * block_size),
        "cache_hit_rate": hit_rate,
    }
    aggregate = {
        "total_running_reqs": stats.num_running,
        "total_waiting_reqs": stats.num_waiting,
        "total_reqs": stats.num_running + stats.num_waiting,
        "avg_token_usage": load["token_usage"],
    }
    return json_reply({"version": VERSION, "dp_rank_count": 1, "loads": [load], "aggregate": aggregate})


def _num_used(tenant: Tenant, scheduler: Scheduler) -> int:
    """Tokens of a tenant's sequences that run."""
    return sum(len(run.tokens) for run in scheduler.running if tenant.owns(run.request.namespace))
